package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Limits of a file of polygons. All countries in their finest common form have a tenth of these.
const (
	maxPolygonBytes     = 64 << 20
	maxPolygonPositions = 1_000_000
)

// geoJSON is an object of a GeoJSON file, of any type, as far as it matters here.
type geoJSON struct {
	Type        string          `json:"type"`
	CRS         *geoCRS         `json:"crs"`
	Features    []*geoJSON      `json:"features"`
	Geometry    *geoJSON        `json:"geometry"`
	Coordinates json.RawMessage `json:"coordinates"`
}

// geoCRS is what GeoJSON had before RFC 7946.
type geoCRS struct {
	Properties struct {
		Name string `json:"name"`
	} `json:"properties"`
}

// polygonCells are the cells of the polygons of a GeoJSON file (RFC 7946): a Polygon, a MultiPolygon,
// a Feature of one, or a FeatureCollection of those. Features without a geometry are passed over.
func polygonCells(path string) (*cellSet, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxPolygonBytes+1))
	if err != nil {
		return nil, err
	}
	set := &cellSet{}
	switch found, err := addGeoJSON(set, data); {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case !found:
		return nil, fmt.Errorf("%s: there is no polygon in it", path)
	}
	return set, nil
}

// addGeoJSON adds the cells of a file's polygons and tells whether there were any.
func addGeoJSON(set *cellSet, data []byte) (found bool, err error) {
	if len(data) > maxPolygonBytes {
		return false, fmt.Errorf("it has more than %s: simplify its polygons", byteSize(maxPolygonBytes))
	}
	// Every position has a bracket of its own, and takes twenty times its bytes once it is read.
	if bytes.Count(data, []byte("[")) > maxPolygonPositions {
		return false, fmt.Errorf("it has more than %s positions: simplify its polygons", group(maxPolygonPositions))
	}
	var top *geoJSON
	if err := json.Unmarshal(data, &top); err != nil {
		return false, fmt.Errorf("it is no GeoJSON: %w", err)
	}
	if top == nil {
		return false, errors.New("it is no GeoJSON: there is no object in it")
	}
	if top.CRS != nil {
		if name := top.CRS.Properties.Name; !strings.HasSuffix(name, "CRS84") && !strings.HasSuffix(name, ":4326") {
			return false, fmt.Errorf("its CRS is %q: reproject it to longitude and latitude (EPSG:4326)", name)
		}
	}
	features := []*geoJSON{top}
	if top.Type == "FeatureCollection" {
		features = top.Features
	}
	for i, g := range features {
		if g != nil && g.Type == "Feature" {
			g = g.Geometry
		}
		if g == nil {
			continue
		}
		if err := set.addGeometry(g); err != nil {
			if top.Type == "FeatureCollection" {
				err = fmt.Errorf("feature %d: %w", i, err)
			}
			return false, err
		}
		found = true
	}
	return found, nil
}

// addGeometry adds the cells of a Polygon or a MultiPolygon.
func (s *cellSet) addGeometry(g *geoJSON) error {
	var polygons [][][][]float64
	var err error
	switch g.Type {
	case "Polygon":
		polygons = make([][][][]float64, 1)
		err = json.Unmarshal(g.Coordinates, &polygons[0])
	case "MultiPolygon":
		err = json.Unmarshal(g.Coordinates, &polygons)
	case "":
		return errors.New("it has no type: a GeoJSON Polygon or MultiPolygon, or features of those, is needed")
	default:
		return fmt.Errorf("it is a %.40q: a GeoJSON Polygon or MultiPolygon, or features of those, is needed", g.Type)
	}
	if err != nil {
		return fmt.Errorf("its coordinates are not those of a %s: %w", g.Type, err)
	}
	for _, polygon := range polygons {
		rings := make([][]position, len(polygon))
		for i, ring := range polygon {
			if rings[i], err = ringOf(ring); err != nil {
				return fmt.Errorf("ring %d: %w", i, err)
			}
		}
		s.addPolygon(rings)
	}
	return nil
}

// ringOf makes positions of numbers; heights are passed over.
func ringOf(numbers [][]float64) ([]position, error) {
	if len(numbers) < 3 {
		return nil, fmt.Errorf("it has %s: three are needed for an area", count(len(numbers), "position"))
	}
	ring := make([]position, len(numbers))
	for i, n := range numbers {
		if len(n) < 2 {
			return nil, fmt.Errorf("position %d has %s: longitude and latitude are needed", i, count(len(n), "number"))
		}
		ring[i] = position{n[0], n[1]}
		if err := ring[i].check(); err != nil {
			return nil, fmt.Errorf("position %d: %w", i, err)
		}
	}
	return ring, nil
}
