package zarr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Attributes is a JSON object whose members keep their order: the attributes of a node, or an
// object among them.
type Attributes []Attribute

// Attribute is a member of a JSON object. Its value is nil, a bool, a string, an int, a float64,
// Attributes, or a slice of these ([]any, or []string, []int, []float64, []Attributes).
//
// A float64 is always written as a number with a point or an exponent, an int never: 10.0, not 10.
// NaN and infinities are errors, because JSON has no word for them and readers differ about what
// zarr-python writes instead.
type Attribute struct {
	Name  string
	Value any
}

// Attr makes an Attribute, shorter than a literal with its field names.
func Attr(name string, value any) Attribute { return Attribute{name, value} }

// indented is a value as Python's json.dumps(value, indent=2) writes it.
func indented(v any) ([]byte, error) {
	plain, err := appendJSON(nil, v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	// json.Indent sets brackets and white space as Python does, and leaves everything else alone.
	if err := json.Indent(&b, plain, "", "  "); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func appendJSON(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case float64:
		return appendFloat(b, v)
	case string:
		return appendString(b, v)
	case Attributes:
		return appendObject(b, v)
	case []any:
		return appendList(b, v)
	case []string:
		return appendList(b, v)
	case []int:
		return appendList(b, v)
	case []float64:
		return appendList(b, v)
	case []Attributes:
		return appendList(b, v)
	}
	return nil, fmt.Errorf("value of type %T has no JSON here", v)
}

func appendObject(b []byte, object Attributes) ([]byte, error) {
	b = append(b, '{')
	seen := make(map[string]bool, len(object))
	for i, a := range object {
		if seen[a.Name] {
			return nil, fmt.Errorf("%q is there twice", a.Name)
		}
		seen[a.Name] = true
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendString(b, a.Name); err != nil {
			return nil, err
		}
		if b, err = appendJSON(append(b, ':'), a.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	return append(b, '}'), nil
}

func appendList[T any](b []byte, list []T) ([]byte, error) {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendJSON(b, v); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendFloat writes a float as Python's repr does: the shortest digits that make the same float,
// with an exponent below 1e-4 and from 1e16 on, and with ".0" where it could be taken for an integer.
func appendFloat(b []byte, v float64) ([]byte, error) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, fmt.Errorf("%v is not a JSON number", v)
	}
	if size := math.Abs(v); size != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.AppendFloat(b, v, 'e', -1, 64), nil
	}
	start := len(b)
	b = strconv.AppendFloat(b, v, 'f', -1, 64)
	if bytes.IndexByte(b[start:], '.') < 0 {
		b = append(b, ".0"...)
	}
	return b, nil
}

// appendString writes a string in ASCII, as Python does: what is beyond is escaped as UTF-16.
func appendString(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%q is not UTF-8", s)
	}
	b = append(b, '"')
	for _, r := range s {
		if i := strings.IndexRune("\"\\\b\f\n\r\t", r); i >= 0 {
			b = append(b, '\\', `"\bfnrt`[i])
		} else if ' ' <= r && r <= '~' {
			b = append(b, byte(r))
		} else {
			for _, unit := range utf16.Encode([]rune{r}) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
		}
	}
	return append(b, '"'), nil
}
