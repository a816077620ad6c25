package layout

import (
	"fmt"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/zarr"
)

// zoneDocuments are the zarr.json of a zone-year store by node, "" the root, which carries those of
// all others as consolidated metadata.
func zoneDocuments(dataset string, key zoneKey, s *zoneYear) (map[string][]byte, error) {
	nodes := zoneNodes(s)
	root, err := zarr.Consolidate(zarr.Group{Attributes: zoneAttributes(dataset, key, s)}, nodes)
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

// zoneNodes are the arrays of a zone-year store. Coordinates are one chunk each: xarray reads every
// one of them whole when it opens a store.
func zoneNodes(s *zoneYear) map[string]zarr.Node {
	h, w := s.grid.Height, s.grid.Width
	bytes := []zarr.Codec{zarr.Bytes{}}
	coordinate := func(name, dataType string, length int, fill any, attributes zarr.Attributes) zarr.Array {
		return zarr.Array{
			Shape: []int{length}, ChunkShape: []int{length}, DataType: dataType, FillValue: fill,
			Codecs: bytes, Attributes: attributes, DimensionNames: []string{name},
		}
	}
	return map[string]zarr.Node{
		"embeddings": zarr.Array{
			Shape: []int{h, w, grid.Bands}, ChunkShape: []int{zoneChunk, zoneChunk, grid.Bands},
			DataType: "int8", FillValue: 0, Codecs: bytes,
			DimensionNames: []string{"northing", "easting", "band"},
			Attributes: zarr.Attributes{
				{Name: "long_name", Value: "TESSERA embedding, quantised"},
				{Name: "units", Value: "1"},
				{Name: "grid_mapping", Value: "spatial_ref"},
				{Name: "comment", Value: "The embedding is embeddings × scales. Where scales is NaN there is none, and embeddings is 0."},
			},
		},
		"scales": zarr.Array{
			Shape: []int{h, w}, ChunkShape: []int{zoneChunk, zoneChunk},
			DataType: "float32", FillValue: nanFill, Codecs: bytes,
			DimensionNames: []string{"northing", "easting"},
			Attributes: zarr.Attributes{
				{Name: "long_name", Value: "scale of the quantised embedding"},
				{Name: "units", Value: "1"},
				{Name: "grid_mapping", Value: "spatial_ref"},
				{Name: "comment", Value: "NaN: water, no valid scale, or no tile."},
			},
		},
		"easting": coordinate("easting", "float64", w, 0.0, zarr.Attributes{
			{Name: "standard_name", Value: "projection_x_coordinate"},
			{Name: "long_name", Value: "easting of pixel centres"},
			{Name: "units", Value: "m"},
			{Name: "axis", Value: "X"},
		}),
		"northing": coordinate("northing", "float64", h, 0.0, zarr.Attributes{
			{Name: "standard_name", Value: "projection_y_coordinate"},
			{Name: "long_name", Value: "northing of pixel centres; negative south of the equator"},
			{Name: "units", Value: "m"},
			{Name: "axis", Value: "Y"},
		}),
		"band": coordinate("band", "int32", grid.Bands, 0, zarr.Attributes{
			{Name: "long_name", Value: "embedding dimension"},
		}),
		"spatial_ref": zarr.Array{
			Shape: []int{}, ChunkShape: []int{}, DataType: "int64", FillValue: 0, Codecs: bytes,
			Attributes: gridMapping(s.grid),
		},
	}
}

// zoneAttributes are those of the store's root: the layout's own names, then CF's, then those of
// the Zarr conventions.
func zoneAttributes(dataset string, key zoneKey, s *zoneYear) zarr.Attributes {
	t := s.grid.Transform()
	a := zarr.Attributes{
		{Name: "utm_zone", Value: key.zone},
		{Name: "year", Value: key.year},
		{Name: "crs_epsg", Value: s.grid.EPSG()},
		{Name: "crs_wkt", Value: s.grid.WKT()},
		{Name: "transform", Value: t[:]},
		{Name: "pixel_size_m", Value: grid.PixelMetres},
		// What the builder writes where it does not know its own version: it built nothing here.
		{Name: "geotessera_version", Value: "unknown"},
		{Name: "tessera_dataset_version", Value: dataset},
		{Name: "n_tiles", Value: s.tiles.Len()},
		{Name: "Conventions", Value: "CF-1.11"},
		{Name: "coordinates", Value: "spatial_ref"},
	}
	return append(a, conventions(s.grid, "northing", "easting")...)
}
