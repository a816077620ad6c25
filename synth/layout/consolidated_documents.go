package layout

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/zarr"
)

// consolidatedDocuments are the zarr.json of a group of a consolidated store by node, "" the group
// itself, which carries those of all below it as consolidated metadata. Of the root it is its own alone.
type consolidatedDocuments struct {
	grid grid.Grid // of a zone
	json map[string][]byte
}

// zoneDocuments returns the documents of a zone's group, worked out once.
func (c *Consolidated) zoneDocuments(ctx context.Context, zone int) (*consolidatedDocuments, error) {
	return shared(ctx, &c.building, c.documents, "documents", zone, func() (*consolidatedDocuments, error) {
		g, err := c.lattice(context.Background(), zone)
		if err != nil {
			return nil, err
		}
		json, err := c.describeZone(g)
		if err != nil {
			return nil, fmt.Errorf("documents of utm%02d: %w", zone, err)
		}
		return &consolidatedDocuments{g, json}, nil
	})
}

// rootDocuments returns the root's document, worked out once.
func (c *Consolidated) rootDocuments(ctx context.Context) (*consolidatedDocuments, error) {
	const root = 0 // among zones
	return shared(ctx, &c.building, c.documents, "documents", root, func() (*consolidatedDocuments, error) {
		var grids []grid.Grid
		for _, zone := range c.zones {
			g, err := c.lattice(context.Background(), zone)
			if err != nil {
				return nil, err
			}
			grids = append(grids, g)
		}
		json, err := c.describeRoot(grids)
		if err != nil {
			return nil, fmt.Errorf("root document: %w", err)
		}
		return &consolidatedDocuments{json: map[string][]byte{"": json}}, nil
	})
}

func (c *Consolidated) describeZone(g grid.Grid) (map[string][]byte, error) {
	nodes := c.zoneNodes(g)
	group, err := zarr.Consolidate(zarr.Group{Attributes: consolidatedZoneAttributes(g)}, nodes)
	if err != nil {
		return nil, err
	}
	nodes[""] = group
	json := make(map[string][]byte, len(nodes))
	for name, node := range nodes {
		if json[name], err = node.JSON(); err != nil {
			return nil, fmt.Errorf("node %q: %w", name, err)
		}
	}
	return json, nil
}

func (c *Consolidated) describeRoot(grids []grid.Grid) ([]byte, error) {
	nodes := make(map[string]zarr.Node)
	for _, g := range grids {
		group := groupName(g.Zone)
		nodes[group] = zarr.Group{Attributes: consolidatedZoneAttributes(g)}
		for name, node := range c.zoneNodes(g) {
			nodes[group+"/"+name] = node
		}
	}
	root, err := zarr.Consolidate(zarr.Group{Attributes: c.rootAttributes()}, nodes)
	if err != nil {
		return nil, err
	}
	return root.JSON()
}

func groupName(zone int) string { return fmt.Sprintf("utm%02d", zone) }

// pixelArray is an array of pixels of a consolidated store.
type pixelArray struct {
	name  string
	bands int // of each pixel, from the first on; 0 for scales
	inner int // side of an inner chunk in pixels
}

func (a pixelArray) pixelBytes() int64 {
	if a.bands == 0 {
		return 4 // float32
	}
	return int64(a.bands)
}

// pixelArrays are those of a dataset of a version: all bands first, scales last.
func pixelArrays(version string, innerChunk, scalesInnerChunk int) []pixelArray {
	arrays := []pixelArray{{"embeddings", grid.Bands, innerChunk}}
	for _, depth := range depths(version) {
		arrays = append(arrays, pixelArray{fmt.Sprintf("embeddings_d%d", depth), depth, depthInnerChunk(depth, innerChunk)})
	}
	return append(arrays, pixelArray{"scales", 0, scalesInnerChunk})
}

// depths are the prefixes of a pixel's bands that are arrays of their own: from version 2 on a model
// puts what matters most into its first bands, so that the first 4 or 16 are embeddings by themselves.
func depths(version string) []int {
	if v, err := strconv.ParseFloat(version, 64); err != nil || v < 2 {
		return nil
	}
	return []int{4, 16}
}

// depthInnerChunk is the side of an inner chunk of the first bands: the longest whose inner chunks have
// no more bytes than those of all bands (geotessera, depth_inner_chunk).
func depthInnerChunk(bands, side int) int {
	budget := grid.Bands * side * side
	for 2*side <= grid.ShardPixels && bands*4*side*side <= budget {
		side *= 2
	}
	return side
}

// bandName is the dimension, and the coordinate, of so many bands. xarray takes one name for one
// length.
func bandName(bands int) string {
	if bands == grid.Bands {
		return "band"
	}
	return fmt.Sprintf("band_d%d", bands)
}

// zoneNodes are the arrays of a zone's group. Coordinates are one chunk each: xarray reads every one
// of them whole when it opens a store.
func (c *Consolidated) zoneNodes(g grid.Grid) map[string]zarr.Node {
	codecs := []zarr.Codec{zarr.Bytes{}}
	coordinate := func(name, dataType string, length int, fill any, attributes zarr.Attributes) zarr.Array {
		return zarr.Array{
			Shape: []int{length}, ChunkShape: []int{length}, DataType: dataType, FillValue: fill,
			Codecs: codecs, Attributes: attributes, DimensionNames: []string{name},
		}
	}
	nodes := map[string]zarr.Node{
		"time": coordinate("time", "int32", len(c.years), 0, zarr.Attributes{
			{Name: "long_name", Value: "year"},
		}),
		"y": coordinate("y", "float64", g.Height, 0.0, zarr.Attributes{
			{Name: "standard_name", Value: "projection_y_coordinate"},
			{Name: "long_name", Value: "northing of pixel centres; negative south of the equator"},
			{Name: "units", Value: "m"},
			{Name: "axis", Value: "Y"},
		}),
		"x": coordinate("x", "float64", g.Width, 0.0, zarr.Attributes{
			{Name: "standard_name", Value: "projection_x_coordinate"},
			{Name: "long_name", Value: "easting of pixel centres"},
			{Name: "units", Value: "m"},
			{Name: "axis", Value: "X"},
		}),
		"spatial_ref": zarr.Array{
			Shape: []int{}, ChunkShape: []int{}, DataType: "int64", FillValue: 0, Codecs: codecs,
			Attributes: gridMapping(g),
		},
	}
	for _, a := range c.arrays {
		if a.bands == 0 {
			nodes[a.name] = c.scalesNode(g, a)
			continue
		}
		nodes[a.name] = c.embeddingsNode(g, a)
		nodes[bandName(a.bands)] = coordinate(bandName(a.bands), "int32", a.bands, 0, zarr.Attributes{
			{Name: "long_name", Value: "embedding dimension"},
		})
	}
	return nodes
}

// embeddingsNode is an array of embeddings. To a reader its dimensions are (time, band, y, x); its
// bytes are those of (time, y, x, band), a tile's own, or in band order those of its dimensions.
func (c *Consolidated) embeddingsNode(g grid.Grid, a pixelArray) zarr.Array {
	name := "TESSERA embedding, quantised"
	if a.bands < grid.Bands {
		name = fmt.Sprintf("first %d dimensions of the TESSERA embedding, quantised", a.bands)
	}
	codecs := []zarr.Codec{zarr.Transpose{Order: []int{0, 2, 3, 1}}, zarr.Bytes{}}
	if c.order == BandOrder {
		codecs = []zarr.Codec{zarr.Bytes{}, zarr.Zstd{}}
	}
	return zarr.Array{
		Shape:      []int{len(c.years), a.bands, g.Height, g.Width},
		ChunkShape: []int{1, a.bands, grid.ShardPixels, grid.ShardPixels},
		DataType:   "int8", FillValue: 0,
		Codecs: []zarr.Codec{zarr.Sharding{
			ChunkShape: []int{1, a.bands, a.inner, a.inner},
			Codecs:     codecs,
		}},
		DimensionNames: []string{"time", bandName(a.bands), "y", "x"},
		Attributes: zarr.Attributes{
			{Name: "long_name", Value: name},
			{Name: "units", Value: "1"},
			{Name: "grid_mapping", Value: "spatial_ref"},
			{Name: "comment", Value: "The embedding is embeddings × scales where scales is finite. Elsewhere there is none, whatever stands here."},
		},
	}
}

func (c *Consolidated) scalesNode(g grid.Grid, a pixelArray) zarr.Array {
	return zarr.Array{
		Shape:      []int{len(c.years), g.Height, g.Width},
		ChunkShape: []int{1, grid.ShardPixels, grid.ShardPixels},
		DataType:   "float32", FillValue: math.Inf(1),
		Codecs: []zarr.Codec{zarr.Sharding{
			ChunkShape: []int{1, a.inner, a.inner},
			Codecs:     []zarr.Codec{zarr.Bytes{}},
		}},
		DimensionNames: []string{"time", "y", "x"},
		Attributes: zarr.Attributes{
			{Name: "long_name", Value: "scale of the quantised embedding"},
			{Name: "units", Value: "1"},
			{Name: "grid_mapping", Value: "spatial_ref"},
			{Name: "comment", Value: "NaN: water, or no valid scale. +inf: no tile."},
		},
	}
}

// consolidatedZoneAttributes are those of a zone's group: CF's, and those of the Zarr conventions.
func consolidatedZoneAttributes(g grid.Grid) zarr.Attributes {
	return append(zarr.Attributes{
		{Name: "Conventions", Value: "CF-1.11"},
		{Name: "coordinates", Value: "spatial_ref"},
	}, conventions(g, "y", "x")...)
}

// rootAttributes are those of the Zarr convention geoemb, as geotessera 0.11.0 writes them.
//
// https://github.com/geo-embeddings/embeddings-zarr-convention
func (c *Consolidated) rootAttributes() zarr.Attributes {
	const repository = "geo-embeddings/embeddings-zarr-convention"
	a := zarr.Attributes{
		{Name: "zarr_conventions", Value: []zarr.Attributes{{
			{Name: "uuid", Value: "61c12cc5-0e28-4056-999a-480cf3fb7e4c"},
			{Name: "name", Value: "geoemb:"},
			{Name: "description", Value: "Geoembeddings convention for geospatial embedding arrays with model provenance"},
			{Name: "spec_url", Value: "https://github.com/" + repository + "/blob/v1/README.md"},
			{Name: "schema_url", Value: "https://raw.githubusercontent.com/" + repository + "/refs/tags/v1/schema.json"},
		}}},
		{Name: "geoemb:type", Value: "pixel"},
		{Name: "geoemb:dimensions", Value: grid.Bands},
		{Name: "geoemb:model", Value: "https://geotessera.org/model/" + c.model},
		{Name: "geoemb:source_data", Value: []string{
			"https://sentinel.esa.int/web/sentinel/missions/sentinel-1",
			"https://sentinel.esa.int/web/sentinel/missions/sentinel-2",
		}},
		{Name: "geoemb:data_type", Value: "int8"},
		{Name: "geoemb:gsd", Value: grid.PixelMetres},
		{Name: "geoemb:spatial_layout", Value: "utm_zones"},
		// What the builder writes where it does not know its own version: it built nothing here.
		{Name: "geoemb:build_version", Value: "unknown"},
		{Name: "geoemb:quantization", Value: zarr.Attributes{
			{Name: "method", Value: "per_pixel_scale"},
			{Name: "original_dtype", Value: "float32"},
			{Name: "quantized_dtype", Value: "int8"},
			{Name: "scale", Value: zarr.Attributes{
				{Name: "type", Value: "array"},
				{Name: "array_name", Value: "scales"},
				{Name: "nodata", Value: "+inf"},
			}},
		}},
	}
	var depths []zarr.Attributes
	for _, array := range c.arrays {
		if array.bands > 0 {
			depths = append(depths, zarr.Attributes{{Name: "dimensions", Value: array.bands}, {Name: "array", Value: array.name}})
		}
	}
	if len(depths) > 1 { // embeddings comes last there
		a = append(a, zarr.Attribute{Name: "geoemb:depths", Value: append(depths[1:], depths[0])})
	}
	return a
}
