package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/parquet/schema"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Columns of legacy manifests: SHA-256 sums of whole files in hexadecimal, as sha256sum prints them.
const (
	colHash       = "hash"        // of the embeddings
	colScalesHash = "scales_hash" // of the scales
)

// Sums are the SHA-256 sums of a tile's two arrays, as files; nil where the manifest gives none.
type Sums struct{ Embeddings, Scales []byte }

// Sums reads the sums of tiles of a dataset from its manifest: legacy ones have them. It returns one
// for each of the tiles, which must be in catalogue order, and nil where there is no manifest or it
// has no such columns. The catalogue does not keep sums, which would take five times the memory of
// all the rest: each call reads the manifest once, and what it takes grows with the number of tiles
// asked for, not with that of the rows. Of rows of the same tile the first counts, as for all else.
//
// A sum that is none is a [*RefusedError]; other errors are the source's. src is the source that the
// catalogue was opened on.
func (c *Catalogue) Sums(ctx context.Context, src source.Source, d *Dataset, tiles []Tile) ([]Sums, error) {
	if d.origin != d.manifest {
		return nil, nil
	}
	again := newOpener(src, c.cfg).copies
	defer again.close()
	manifest, err := again.open(ctx, d.manifest)
	if err != nil || manifest.obj == nil {
		return nil, err
	}
	obj := manifest.obj
	t, err := openTable(ctx, d.manifest, obj)
	if err != nil {
		return nil, err
	}
	s, err := c.newSumsReader(t, d, tiles)
	if err != nil || s == nil {
		return nil, err
	}
	if err := s.columns.readGroups(ctx, func(int) func(span) error { return s.batch }); err != nil {
		return nil, err
	}
	if err := obj.Check(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", d.manifest, err)
	}
	return s.sums, nil
}

// sumsReader is one call of Sums; several row groups are read at once.
type sumsReader struct {
	columns            *rowColumns
	embeddings, scales int     // columns of sums, -1 for one that is not there
	places             []place // of the datasets under the manifest
	dataset            int     // the one that is asked for
	tiles              []Tile

	mu   sync.Mutex // guards what follows
	sums []Sums     // of tiles
	rows []int64    // where each was found, counted from 1; 0 for none yet
}

// newSumsReader is nil where the manifest has no sums.
func (c *Catalogue) newSumsReader(t *table, d *Dataset, tiles []Tile) (*sumsReader, error) {
	columns, err := findColumns(t, true)
	if err != nil {
		return nil, err
	}
	s := &sumsReader{columns: columns, embeddings: -1, scales: -1, tiles: tiles,
		sums: make([]Sums, len(tiles)), rows: make([]int64, len(tiles))}
	for _, add := range []struct {
		name string
		at   *int
	}{{colHash, &s.embeddings}, {colScalesHash, &s.scales}} {
		if t.hasNulls(add.name) {
			continue
		}
		column, err := t.column(add.name, text, false)
		if err != nil {
			return nil, err
		}
		if column != nil {
			*add.at = len(columns.columns)
			columns.columns = append(columns.columns, column)
		}
	}
	if s.embeddings < 0 && s.scales < 0 {
		return nil, nil
	}
	for _, other := range c.Datasets {
		if other == d {
			s.dataset = len(s.places)
		}
		if other.manifest == d.manifest {
			s.places = append(s.places, other.place)
		}
	}
	return s, nil
}

// hasNulls tells whether a column holds nothing but nulls: pandas writes it as one of no type.
func (t *table) hasNulls(name string) bool {
	for i := range t.meta.Schema.NumColumns() {
		if d := t.meta.Schema.Column(i); d.Path() == name {
			_, null := d.LogicalType().(schema.NullLogicalType)
			return null
		}
	}
	return false
}

// batch takes from a batch of rows what is asked for.
func (s *sumsReader) batch(all span) error {
	runs := &manifestReader{rowColumns: s.columns}
	for lo := 0; lo < all.hi; {
		run := all
		run.lo, run.hi = lo, lo+1
		for run.hi < all.hi && runs.alike(all.v, lo, run.hi) {
			run.hi++
		}
		lo = run.hi
		ours, err := s.ours(run)
		if err == nil && ours {
			err = s.run(run)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ours tells whether rows of one version, variant and year are of the dataset.
func (s *sumsReader) ours(run span) (bool, error) {
	c := s.columns
	version, variant := "", ""
	if c.version >= 0 {
		version = run.v[c.version].texts[run.lo]
	}
	if c.variant >= 0 {
		variant = run.v[c.variant].texts[run.lo]
	}
	dataset, err := route(s.places, version, c.version >= 0, variant, c.variant >= 0)
	if err != nil {
		return false, c.table.refuseRow("", run.row+int64(run.lo), err)
	}
	return dataset == s.dataset, nil
}

// run takes rows of one year of the dataset.
func (s *sumsReader) run(run span) error {
	c := s.columns
	cells := make([]grid.Cell, run.hi-run.lo)
	f := fault{at: len(cells)}
	if c.readCells(cells, run, &f); f.err != nil {
		return f.err
	}
	year := int(run.ints(c.year)[0])
	for i, cell := range cells {
		at, wanted := slices.BinarySearchFunc(s.tiles, cell, func(t Tile, cell grid.Cell) int {
			if t.Year != year {
				return t.Year - year
			}
			return t.Cell.Compare(cell)
		})
		if !wanted {
			continue
		}
		var sums Sums
		for _, column := range []struct {
			at  int
			sum *[]byte
		}{{s.embeddings, &sums.Embeddings}, {s.scales, &sums.Scales}} {
			var err error
			if column.at < 0 {
				continue
			}
			if *column.sum, err = parseSum(run.v[column.at].texts[run.lo+i]); err != nil {
				c.refuse(&f, run, column.at, i, "%w", err)
				return f.err
			}
		}
		s.keep(at, run.row+int64(run.lo+i), sums)
	}
	return nil
}

func (s *sumsReader) keep(at int, row int64, sums Sums) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row+1 < s.rows[at] || s.rows[at] == 0 {
		s.rows[at], s.sums[at] = row+1, sums
	}
}

// parseSum reads a sum; an empty one is none.
func parseSum(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != sha256.Size {
		return nil, errors.New(`is no SHA-256 sum, which has 64 hexadecimal digits: "` + abridged(text) + `"`)
	}
	return sum, nil
}
