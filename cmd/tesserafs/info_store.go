package main

import (
	"context"
	byteorder "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// storeInfo is what info says of one store, or of a zone's group in one. Zeros are not known.
type storeInfo struct {
	Store   string `json:"store"` // its path, from what was asked for
	Years   []int  `json:"years"`
	Tiles   int    `json:"tiles,omitempty"`
	EPSG    int    `json:"epsg"`
	Height  int    `json:"height"` // pixels
	Width   int    `json:"width"`
	Degrees limits `json:"degrees"`
	Metres  limits `json:"metres"`
	Stored  int64  `json:"bytes_stored,omitempty"`
	Seen    int64  `json:"bytes_seen"`
}

type limits struct {
	West  float64 `json:"west"`
	South float64 `json:"south"`
	East  float64 `json:"east"`
	North float64 `json:"north"`
}

// place says where a lattice lies. Its degrees end with its zone: far north a lattice is a rectangle
// that reaches over many zones, and its tiles do not.
func (s *storeInfo) place(g grid.Grid) error {
	b, err := g.Bounds()
	if err != nil {
		return err
	}
	central := float64(6*g.Zone - 183)
	within := func(lon float64) float64 {
		return max(central-3, min(central+3, central+math.Remainder(lon-central, 360)))
	}
	s.EPSG, s.Height, s.Width = g.EPSG(), g.Height, g.Width
	s.Degrees = limits{within(b.West), b.South, within(b.East), b.North}
	s.Metres = limits{g.Easting, g.Northing - float64(g.Height)*grid.PixelMetres, g.Easting + float64(g.Width)*grid.PixelMetres, g.Northing}
	return nil
}

// stores describes the zone-year stores that a mount of the archive shows.
func (a *archive) stores(ctx context.Context) ([]storeInfo, error) {
	var all []storeInfo
	var tiles []catalogue.Tiles
	for _, ds := range a.catalogue.Datasets {
		for _, year := range ds.Years() {
			for _, zone := range ds.Zones(year) {
				t := ds.Tiles(year, zone)
				all = append(all, storeInfo{Store: fmt.Sprintf("%s/zones/%d/utm%02d_%d.zarr", ds.Name(), year, zone, year), Years: []int{year}, Tiles: t.Len()})
				tiles = append(tiles, t)
			}
		}
	}
	total, done := 0, atomic.Int64{}
	for _, t := range tiles {
		total += t.Len()
	}
	bar := newProgress("measuring", int64(total))
	defer bar.end()
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range tiles {
		workers.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := all[i].measure(t)
			bar.set(int(done.Add(int64(t.Len()))))
			return err
		})
	}
	return all, workers.Wait()
}

// measure works out the zone-year store of tiles.
func (s *storeInfo) measure(tiles catalogue.Tiles) error {
	cells := make([]grid.Cell, tiles.Len())
	for i := range cells {
		t := tiles.At(i)
		cells[i] = t.Cell
		s.Stored += max(0, t.Embeddings) + max(0, t.Scales)
	}
	prints, err := grid.Footprints(cells)
	if err != nil {
		return err
	}
	g, err := grid.ZoneYear(prints)
	if err != nil {
		return err
	}
	pixels := int64(g.Height) * int64(g.Width)
	const coordinate, band, spatialRef = 8, 4, 8 // bytes of a value
	s.Seen = pixels*(grid.Bands+4) + coordinate*int64(g.Height+g.Width) + band*grid.Bands + spatialRef
	return s.place(g)
}

// document is what info reads of a zarr.json.
type document struct {
	NodeType     string                     `json:"node_type"`
	Attributes   map[string]json.RawMessage `json:"attributes"`
	Shape        []int64                    `json:"shape"`
	DataType     any                        `json:"data_type"`
	Consolidated *struct {
		Metadata map[string]document `json:"metadata"`
	} `json:"consolidated_metadata"`
}

// maxDocument is far more than the zarr.json of a store of all zones has.
const maxDocument = 64 << 20

func readDocument(dir string) (d document, err error) {
	path := filepath.Join(dir, "zarr.json")
	f, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(raw) > maxDocument {
		err = fmt.Errorf("it has more than %s", byteSize(maxDocument))
	}
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		return d, &coded{exitData, fmt.Errorf("%s cannot be read: %w", path, err)}
	}
	return d, nil
}

// storeAt is the store that a path names, or whose array it names.
func storeAt(path string) (string, bool) {
	if d, err := readDocument(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", false
	} else if err == nil && d.NodeType == "array" {
		return filepath.Dir(path), true
	}
	return path, true
}

// readStore describes the groups of a store that hold pixels. With stored it adds up what lies on
// disk.
func readStore(dir, name string, stored bool) ([]storeInfo, error) {
	root, err := readDocument(dir)
	if err != nil {
		return nil, err
	}
	foreign := func(why string) error {
		return &coded{exitData, fmt.Errorf("%s %s: tesserafs did not write this store", filepath.Join(dir, "zarr.json"), why)}
	}
	if root.Consolidated == nil {
		return nil, foreign("has no consolidated metadata")
	}
	nodes := root.Consolidated.Metadata
	nodes[""] = root
	var out []storeInfo
	for _, group := range slices.Sorted(maps.Keys(nodes)) {
		if nodes[group].NodeType != "group" || nodes[group].Attributes["spatial:transform"] == nil {
			continue
		}
		s := storeInfo{Store: filepath.Join(name, group), Years: []int{}}
		if err := s.read(filepath.Join(dir, group), group, nodes); err != nil {
			return nil, foreign("says in group " + strconv.Quote(group) + " " + err.Error())
		}
		if stored {
			if s.Stored, err = diskBytes(filepath.Join(dir, group)); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, foreign("does not say where its pixels lie (proj:code, spatial:transform)")
	}
	return out, nil
}

// read takes from a group's document and those of its arrays what info says of it.
func (s *storeInfo) read(dir, group string, nodes map[string]document) error {
	attributes := nodes[group].Attributes
	get := func(name string, into any) error {
		if err := json.Unmarshal(attributes[name], into); err != nil {
			return fmt.Errorf("nothing that can be used as %s", name)
		}
		return nil
	}
	var code string
	var transform [6]float64
	var shape [2]int
	if err := errors.Join(get("proj:code", &code), get("spatial:transform", &transform), get("spatial:shape", &shape)); err != nil {
		return err
	}
	number, _ := strings.CutPrefix(code, "EPSG:")
	epsg, _ := strconv.Atoi(number)
	g := grid.Grid{Zone: epsg % 100, South: epsg > 32700, Easting: transform[2], Northing: transform[5], Height: shape[0], Width: shape[1]}
	if g.Zone < 1 || g.Zone > grid.Zones || g.EPSG() != epsg || shape[0] < 0 || shape[1] < 0 || transform[0] != grid.PixelMetres || transform[4] != -grid.PixelMetres {
		return fmt.Errorf("%q and a transform %v, which is no UTM lattice of 10 m", code, transform)
	}
	if err := s.place(g); err != nil {
		return err
	}
	_ = get("n_tiles", &s.Tiles) // only zone-year stores have it
	for name, node := range nodes {
		parent, array := "", name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			parent, array = name[:i], name[i+1:]
		}
		if parent != group || node.NodeType != "array" {
			continue
		}
		s.Seen += node.bytes()
		if array == "time" && len(node.Shape) == 1 {
			s.Years = readYears(filepath.Join(dir, "time/c/0"), node)
		}
	}
	var year int
	var begins string
	if get("year", &year) == nil {
		s.Years = []int{year}
	} else if get("time_coverage_start", &begins) == nil && len(begins) >= 4 {
		if year, err := strconv.Atoi(begins[:4]); err == nil {
			s.Years = []int{year}
		}
	}
	return nil
}

// bytes is the size of an array in memory.
func (d document) bytes() int64 {
	name, _ := d.DataType.(string)
	bits, err := strconv.ParseInt(strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz"), 10, 64)
	if err != nil {
		bits = 8 // bool
	}
	n := bits / 8
	for _, length := range d.Shape {
		n *= length
	}
	return n
}

// readYears reads the chunk of a time coordinate as tesserafs writes it; none where it is not so.
func readYears(path string, time document) []int {
	raw, err := os.ReadFile(path)
	if err != nil || time.DataType != "int32" || int64(len(raw)) != 4*time.Shape[0] {
		return []int{}
	}
	years := make([]int, time.Shape[0])
	for i := range years {
		years[i] = int(int32(byteorder.LittleEndian.Uint32(raw[4*i:])))
	}
	return years
}

// diskBytes is what the files below a directory take, holes not counted.
func diskBytes(dir string) (int64, error) {
	total := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			total += stat.Blocks * 512
		}
		return nil
	})
	return total, err
}

// maxStores bounds how many stores are looked at below a directory.
const maxStores = 1000

// storesUnder describes the stores below a directory. It looks four levels down, and not into tiles/,
// where each tile has a store, unless that was asked for.
func storesUnder(ctx context.Context, dir string) (stores []storeInfo, more bool, err error) {
	bar := newProgress("looking for stores", 0)
	bar.unit = "stores"
	defer bar.end()
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || !d.IsDir() {
			return err
		}
		switch _, err := os.Stat(filepath.Join(path, "zarr.json")); {
		case err == nil && len(stores) >= maxStores:
			more = true
			return fs.SkipAll
		case err == nil:
			found, err := readStore(path, rel, false)
			stores = append(stores, found...)
			bar.set(len(stores))
			if err != nil {
				return err
			}
			return fs.SkipDir
		case strings.Count(rel, "/") >= 3, d.Name() == "tiles" && rel != ".":
			return fs.SkipDir
		}
		return nil
	})
	return stores, more, err
}
