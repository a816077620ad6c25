package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

// byteSize is a number of bytes on the command line and in tables: 512MiB.
type byteSize int64

var _ pflag.Value = (*byteSize)(nil)

var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

func (b byteSize) String() string {
	for _, u := range units[:4] {
		if int64(b) >= u.bytes {
			text := strconv.FormatFloat(float64(b)/float64(u.bytes), 'f', 1, 64)
			return strings.TrimSuffix(text, ".0") + " " + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

func (b *byteSize) Type() string { return "size" }

// Set reads a number with a unit (512MiB, 1.5 GB), or without one for bytes.
func (b *byteSize) Set(text string) error {
	number, scale := strings.TrimSpace(text), int64(1)
	for _, u := range units {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, scale = strings.TrimSpace(number[:len(number)-len(u.name)]), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if v *= float64(scale); err != nil || !(v >= 0 && v < 1<<60) {
		return errors.New("a size is a number and a unit, such as 512MiB or 2GiB")
	}
	*b = byteSize(v)
	return nil
}

// table prints rows in columns.
func table(w io.Writer, indent string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(t, "%s%s\n", indent, strings.Join(row, "\t"))
	}
	t.Flush()
}

// ranges writes ascending numbers with runs drawn together: 2017–2021, 2024.
func ranges(n []int) string {
	var out []string
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		text := strconv.Itoa(n[i])
		if j > i {
			text += "–" + strconv.Itoa(n[j])
		}
		out = append(out, text)
		i = j + 1
	}
	return strings.Join(out, ", ")
}

// count writes a number and what it counts: 1 tile, 2 tiles.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// group writes a number with its thousands apart: 1,755,251.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
