package layout

import (
	"fmt"
	"math"
	"strings"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/zarr"
	"github.com/tesserafs/tesserafs/tilecache/catalogue"
)

// subject is what a per-tile store is about. Version and variant may be unknown, "".
type subject struct {
	dataset, version, variant string
	tile                      catalogue.Tile
}

// tileDocuments are the zarr.json of a per-tile store by node, "" the root, which carries those of all
// others as consolidated metadata.
func tileDocuments(about subject, g grid.Grid) (map[string][]byte, error) {
	attributes, err := tileAttributes(about, g)
	if err != nil {
		return nil, err
	}
	nodes := tileNodes(g)
	root, err := zarr.Consolidate(zarr.Group{Attributes: attributes}, nodes)
	if err != nil {
		return nil, err
	}
	nodes[""] = root
	documents := make(map[string][]byte, len(nodes))
	for name, node := range nodes {
		if documents[name], err = node.JSON(); err != nil {
			return nil, fmt.Errorf("node %q: %w", name, err)
		}
	}
	return documents, nil
}

// tileNodes are the arrays of a per-tile store. coverage_content_type is ACDD's, from ISO 19115-1.
//
// Embeddings and scales have no standard_name, which ACDD would like to see: the CF table has no name
// for what a model has learned, and a name that is not in the table is an error (CF-1.11, 3.3).
func tileNodes(g grid.Grid) map[string]zarr.Node {
	array := func(dataType string, fill any, shape, chunks []int, dimensions []string, attributes ...zarr.Attribute) zarr.Array {
		return zarr.Array{Shape: shape, ChunkShape: chunks, DataType: dataType, FillValue: fill, Codecs: []zarr.Codec{zarr.Bytes{}},
			Attributes: attributes, DimensionNames: dimensions}
	}
	h, w := g.Height, g.Width
	return map[string]zarr.Node{
		"embeddings": array("int8", 0, []int{h, w, grid.Bands}, []int{tileRows, w, grid.Bands}, []string{"y", "x", "band"},
			zarr.Attr("long_name", "TESSERA embedding, quantised"),
			zarr.Attr("units", "1"),
			zarr.Attr("grid_mapping", "spatial_ref"),
			zarr.Attr("ancillary_variables", "scales landmask"),
			zarr.Attr("coverage_content_type", "modelResult"),
			zarr.Attr("comment", "The embedding is embeddings × scales. Where scales is NaN there is none, whatever embeddings holds."),
		),
		"scales": array("float32", nanFill, []int{h, w}, []int{tileRows, w}, []string{"y", "x"},
			zarr.Attr("long_name", "scale of the quantised embedding"),
			zarr.Attr("units", "1"),
			zarr.Attr("grid_mapping", "spatial_ref"),
			zarr.Attr("coverage_content_type", "auxiliaryInformation"),
			zarr.Attr("comment", "NaN: water, or no valid scale."),
		),
		"landmask": array("uint8", 0, []int{h, w}, []int{tileRows, w}, []string{"y", "x"},
			zarr.Attr("standard_name", "land_binary_mask"),
			zarr.Attr("long_name", "landmask of the tile"),
			zarr.Attr("units", "1"),
			zarr.Attr("grid_mapping", "spatial_ref"),
			zarr.Attr("coverage_content_type", "thematicClassification"),
			zarr.Attr("comment", "0: water; otherwise land. 1 throughout where the archive has no landmask of the tile."),
		),
		"x": array("float64", 0.0, []int{w}, []int{w}, []string{"x"},
			zarr.Attr("standard_name", "projection_x_coordinate"),
			zarr.Attr("long_name", "easting of pixel centres"),
			zarr.Attr("units", "m"),
			zarr.Attr("axis", "X"),
			zarr.Attr("coverage_content_type", "coordinate"),
		),
		"y": array("float64", 0.0, []int{h}, []int{h}, []string{"y"},
			zarr.Attr("standard_name", "projection_y_coordinate"),
			zarr.Attr("long_name", "northing of pixel centres"),
			zarr.Attr("units", "m"),
			zarr.Attr("axis", "Y"),
			zarr.Attr("coverage_content_type", "coordinate"),
		),
		"band": array("int32", 0, []int{grid.Bands}, []int{grid.Bands}, []string{"band"},
			zarr.Attr("long_name", "embedding dimension"),
			zarr.Attr("units", "1"),
			zarr.Attr("coverage_content_type", "coordinate"),
		),
		"spatial_ref": array("int64", 0, []int{}, []int{}, nil,
			append(gridMapping(g), zarr.Attr("long_name", "coordinate reference system"))...),
	}
}

// tileAttributes are those of the store's root: CF's and ACDD's (Attribute Convention for Data
// Discovery 1.3), then those of the Zarr conventions. They depend on the tile and on nothing else:
// dates are those of its newest object, so that a store is the same whenever it is looked at.
func tileAttributes(about subject, g grid.Grid) (zarr.Attributes, error) {
	b, err := g.Bounds()
	if err != nil {
		return nil, err
	}
	lon, lat := about.tile.Cell.LonLat()
	tile, year := about.tile.Cell.String(), about.tile.Year
	made := about.tile.ModTime.UTC().Format("2006-01-02T15:04:05Z")
	west, south := g.Easting, g.Northing-float64(g.Height)*grid.PixelMetres
	east, north := g.Easting+float64(g.Width)*grid.PixelMetres, g.Northing
	a := zarr.Attributes{
		{Name: "Conventions", Value: "CF-1.11, ACDD-1.3"},
		{Name: "title", Value: fmt.Sprintf("TESSERA embeddings of %d, tile %s", year, tile)},
		{Name: "summary", Value: fmt.Sprintf("A vector of 128 numbers for each pixel of 10 m that sums up what Sentinel-1 and Sentinel-2 saw of it in %d, "+
			"made by the TESSERA foundation model, quantised: an embedding is embeddings × scales. "+
			"The tile is the cell of 0.1° centred at %s, %s, in pixels of its UTM zone.", year, degrees(lat, "N", "S"), degrees(lon, "E", "W"))},
		{Name: "keywords", Value: "TESSERA, embeddings, foundation model, Earth observation, land surface, Sentinel-1, Sentinel-2"},
		{Name: "id", Value: fmt.Sprintf("%s/%d/%s", about.dataset, year, tile)},
		{Name: "naming_authority", Value: "org.geotessera"},
		{Name: "source", Value: about.source()},
		{Name: "processing_level", Value: "Level 4"},
		{Name: "history", Value: made + ": the newest of the tile's objects was written. tesserafs shows them as they are; nothing was converted."},
		{Name: "comment", Value: "Where scales is NaN there is no embedding. Tiles overlap their neighbours."},
		{Name: "license", Value: "CC0-1.0, https://creativecommons.org/publicdomain/zero/1.0/"},
		{Name: "acknowledgement", Value: "Attribution is asked for, not required: Feng et al., TESSERA: Temporal Embeddings of Surface Spectra for Earth Representation and Analysis, https://arxiv.org/abs/2506.20380"},
		{Name: "references", Value: "https://arxiv.org/abs/2506.20380"},
		{Name: "metadata_link", Value: "https://github.com/ucam-eo/geotessera"},
		{Name: "project", Value: "TESSERA"},
		{Name: "institution", Value: "University of Cambridge"},
		{Name: "creator_name", Value: "TESSERA"},
		{Name: "creator_type", Value: "group"},
		{Name: "creator_institution", Value: "University of Cambridge"},
		{Name: "creator_url", Value: "https://geotessera.org"},
		{Name: "publisher_name", Value: "GeoTessera"},
		{Name: "publisher_type", Value: "group"},
		{Name: "publisher_url", Value: "https://geotessera.org"},
		{Name: "date_created", Value: made},
		{Name: "date_modified", Value: made},
		{Name: "standard_name_vocabulary", Value: "CF Standard Name Table v93"},
		{Name: "cdm_data_type", Value: "Grid"},
		{Name: "geospatial_lat_min", Value: b.South},
		{Name: "geospatial_lat_max", Value: b.North},
		{Name: "geospatial_lat_units", Value: "degrees_north"},
		{Name: "geospatial_lat_resolution", Value: "10 m"},
		{Name: "geospatial_lon_min", Value: b.West},
		{Name: "geospatial_lon_max", Value: b.East},
		{Name: "geospatial_lon_units", Value: "degrees_east"},
		{Name: "geospatial_lon_resolution", Value: "10 m"},
		{Name: "geospatial_bounds", Value: fmt.Sprintf("POLYGON ((%[1]s, %[2]s, %[3]s, %[4]s, %[1]s))", corner(west, south), corner(east, south), corner(east, north), corner(west, north))},
		{Name: "geospatial_bounds_crs", Value: fmt.Sprintf("EPSG:%d", g.EPSG())},
		{Name: "time_coverage_start", Value: fmt.Sprintf("%04d-01-01T00:00:00Z", year)},
		{Name: "time_coverage_end", Value: fmt.Sprintf("%04d-12-31T23:59:59Z", year)},
		{Name: "time_coverage_duration", Value: "P1Y"},
		{Name: "time_coverage_resolution", Value: "P1Y"},
	}
	if about.version != "" {
		a = append(a, zarr.Attr("product_version", about.version))
	}
	a = append(a, zarr.Attr("coordinates", "spatial_ref"))
	return append(a, conventions(g, "y", "x")...), nil
}

// source says which model made the tile, as far as that is known.
func (about subject) source() string {
	var of strings.Builder
	of.WriteString("TESSERA model")
	if about.version != "" {
		of.WriteString(" " + about.version)
	}
	if about.variant != "" {
		of.WriteString(", variant " + about.variant)
	}
	return of.String() + ", from a year of Sentinel-1 and Sentinel-2 observations"
}

// corner writes a point of a lattice, in whole metres, as WKT has it.
func corner(easting, northing float64) string { return fmt.Sprintf("%.0f %.0f", easting, northing) }

// degrees writes a coordinate for people: "52.05° N".
func degrees(v float64, positive, negative string) string {
	if v < 0 {
		positive = negative
	}
	return fmt.Sprintf("%.2f° %s", math.Abs(v), positive)
}
