package npy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxDims is NumPy's own limit (NPY_MAXDIMS).
const maxDims = 64

// parser walks over the text of a dict literal. Its methods skip the white space before what they
// look for.
type parser struct {
	text  string
	pos   int
	longs bool // integers may carry the "L" of Python 2
}

// parseDict reads the dict literal of a header.
func parseDict(text string, longs bool) (Header, error) {
	p := &parser{text: text, longs: longs}
	var h Header
	seen := map[string]bool{}
	if err := p.expect('{'); err != nil {
		return Header{}, err
	}
	for !p.accept('}') {
		key, err := p.quoted()
		if err != nil {
			return Header{}, err
		}
		if seen[key] {
			return Header{}, fmt.Errorf("key %q is there twice", key)
		}
		seen[key] = true
		if err := p.expect(':'); err != nil {
			return Header{}, err
		}
		switch key {
		case "descr":
			h.Descr, err = p.descr()
		case "fortran_order":
			h.Fortran, err = p.boolean()
		case "shape":
			h.Shape, err = p.shape()
		default:
			err = errors.New("the keys are descr, fortran_order and shape")
		}
		if err != nil {
			return Header{}, fmt.Errorf("%s: %w", strconv.Quote(key), err)
		}
		if !p.accept(',') {
			if err := p.expect('}'); err != nil {
				return Header{}, err
			}
			break
		}
	}
	for _, key := range []string{"descr", "fortran_order", "shape"} {
		if !seen[key] {
			return Header{}, fmt.Errorf("key %q is missing", key)
		}
	}
	if p.skip(); p.pos < len(p.text) {
		return Header{}, p.unexpected("nothing after the dict")
	}
	return h, nil
}

func (p *parser) skip() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\n\r\f", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

// accept takes the byte if it comes next.
func (p *parser) accept(c byte) bool {
	p.skip()
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(c byte) error {
	if !p.accept(c) {
		return p.unexpected(strconv.QuoteRune(rune(c)))
	}
	return nil
}

// excerpt is what comes next, short enough for an error.
func (p *parser) excerpt() string {
	p.skip()
	rest := strings.TrimRight(p.text[p.pos:], " \n")
	return rest[:min(len(rest), 24)]
}

func (p *parser) unexpected(want string) error {
	return fmt.Errorf("at byte %d: expected %s, found %q", p.pos, want, p.excerpt())
}

// quoted reads a string in either kind of quotes. Nothing the format needs has an escape or a line
// break in it.
func (p *parser) quoted() (string, error) {
	var quote byte
	switch {
	case p.accept('\''):
		quote = '\''
	case p.accept('"'):
		quote = '"'
	default:
		return "", p.unexpected("a string")
	}
	rest := p.text[p.pos:]
	end := strings.IndexByte(rest, quote)
	if end < 0 || strings.ContainsAny(rest[:end], "\\\r\n") {
		p.pos--
		return "", p.unexpected("a string without escapes")
	}
	p.pos += end + 1
	return rest[:end], nil
}

// descr reads a dtype. What is not one plain type is refused here: the bytes of such arrays are
// not a run of numbers.
func (p *parser) descr() (string, error) {
	p.skip()
	if p.pos < len(p.text) {
		switch p.text[p.pos] {
		case '[':
			return "", fmt.Errorf("dtype %q… (a structure of fields) is not numbers", p.excerpt())
		case '(':
			return "", fmt.Errorf("dtype %q… (an array in each element) is not plain numbers", p.excerpt())
		}
	}
	descr, err := p.quoted()
	switch {
	case err != nil:
		return "", err
	case strings.TrimLeft(descr, "|<>=") == "O":
		return "", fmt.Errorf("dtype %s (pickled objects) is not numbers", descr)
	case !plain(descr):
		return "", fmt.Errorf("dtype %q is not one", descr)
	case int8Spellings[descr]:
		return "|i1", nil
	}
	return descr, nil
}

// plain tells whether a dtype has the form of one: "<f4", "|S12", "<M8[ns]". What goes into logs
// and errors later is then short and printable.
func plain(descr string) bool {
	for i := range len(descr) {
		switch c := descr[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', strings.IndexByte("|<>=?[]", c) >= 0:
		default:
			return false
		}
	}
	return descr != "" && len(descr) <= 32
}

func (p *parser) boolean() (bool, error) {
	switch word := p.word(); word {
	case "True", "False":
		p.pos += len(word)
		return word == "True", nil
	}
	return false, p.unexpected("True or False")
}

// word is the run of letters and digits that comes next, not yet taken.
func (p *parser) word() string {
	p.skip()
	end := p.pos
	for end < len(p.text) {
		c := p.text[end]
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			break
		}
		end++
	}
	return p.text[p.pos:end]
}

// shape reads a tuple of dimensions: "()", "(5,)", "(5, 6)", "(5, 6,)". "(5)" is a number in
// brackets, not a tuple.
func (p *parser) shape() ([]int, error) {
	if err := p.expect('('); err != nil {
		return nil, err
	}
	var shape []int
	for !p.accept(')') {
		n, err := p.dimension()
		if err != nil {
			return nil, err
		}
		if shape = append(shape, n); len(shape) > maxDims {
			return nil, fmt.Errorf("more than %d dimensions", maxDims)
		}
		if p.accept(',') {
			continue
		}
		if len(shape) == 1 {
			return nil, p.unexpected("the comma of a tuple")
		}
		if err := p.expect(')'); err != nil {
			return nil, err
		}
		break
	}
	return shape, nil
}

func (p *parser) dimension() (int, error) {
	word := p.word()
	digits := word
	if p.longs {
		digits = strings.TrimSuffix(word, "L")
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" || len(digits) > 1 && digits[0] == '0' {
		return 0, p.unexpected("a number that is not negative")
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("dimension %.24s is too large", digits)
	}
	p.pos += len(word)
	return n, nil
}
