package layout

import (
	"fmt"
	"math"
	"strconv"

	"github.com/tesserafs/tesserafs/grid"
	"github.com/tesserafs/tesserafs/synth/zarr"
)

// nanFill is the fill value of scales without a tile.
var nanFill = math.NaN()

// gridMapping are the attributes of a spatial_ref: CF's grid mapping of a UTM zone (CF-1.11,
// appendix F, transverse Mercator), with the whole system as WKT for those who read that, and the
// geotransform as GDAL orders it.
func gridMapping(g grid.Grid) zarr.Attributes {
	t := g.Transform()
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	hemisphere, falseNorthing := "N", 0.0
	if g.South {
		hemisphere, falseNorthing = "S", grid.SouthernNorthing
	}
	return zarr.Attributes{
		{Name: "grid_mapping_name", Value: "transverse_mercator"},
		{Name: "longitude_of_central_meridian", Value: float64(6*g.Zone - 183)},
		{Name: "latitude_of_projection_origin", Value: 0.0},
		{Name: "scale_factor_at_central_meridian", Value: 0.9996},
		{Name: "false_easting", Value: 500000.0},
		{Name: "false_northing", Value: falseNorthing},
		{Name: "semi_major_axis", Value: 6378137.0},
		{Name: "semi_minor_axis", Value: 6356752.314245179},
		{Name: "inverse_flattening", Value: 298.257223563},
		{Name: "reference_ellipsoid_name", Value: "WGS 84"},
		{Name: "longitude_of_prime_meridian", Value: 0.0},
		{Name: "prime_meridian_name", Value: "Greenwich"},
		{Name: "geographic_crs_name", Value: "WGS 84"},
		{Name: "horizontal_datum_name", Value: "World Geodetic System 1984 ensemble"},
		{Name: "projected_crs_name", Value: fmt.Sprintf("WGS 84 / UTM zone %d%s", g.Zone, hemisphere)},
		{Name: "crs_wkt", Value: g.WKT()},
		{Name: "spatial_ref", Value: g.WKT()},
		{Name: "GeoTransform", Value: number(t[2]) + " " + number(t[0]) + " " + number(t[1]) + " " +
			number(t[5]) + " " + number(t[3]) + " " + number(t[4])},
	}
}

// conventions are the attributes of the Zarr conventions proj and spatial, version 0.1, for a group
// whose arrays lie on a lattice. They are given whole: GDAL and others drop a set that is partial.
//
// https://github.com/zarr-conventions/proj, https://github.com/zarr-conventions/spatial
func conventions(g grid.Grid, y, x string) zarr.Attributes {
	t := g.Transform()
	return zarr.Attributes{
		{Name: "zarr_conventions", Value: []zarr.Attributes{
			convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information for geospatial data"),
			convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
		}},
		{Name: "proj:code", Value: fmt.Sprintf("EPSG:%d", g.EPSG())},
		{Name: "proj:wkt2", Value: g.WKT()},
		{Name: "spatial:dimensions", Value: []string{y, x}},
		{Name: "spatial:bbox", Value: []float64{
			g.Easting, g.Northing - float64(g.Height)*grid.PixelMetres,
			g.Easting + float64(g.Width)*grid.PixelMetres, g.Northing,
		}},
		{Name: "spatial:transform_type", Value: "affine"},
		{Name: "spatial:transform", Value: t[:]},
		{Name: "spatial:shape", Value: []int{g.Height, g.Width}},
		{Name: "spatial:registration", Value: "pixel"},
	}
}

func convention(name, uuid, description string) zarr.Attributes {
	base := "zarr-conventions/" + name
	return zarr.Attributes{
		{Name: "schema_url", Value: "https://raw.githubusercontent.com/" + base + "/refs/tags/v0.1/schema.json"},
		{Name: "spec_url", Value: "https://github.com/" + base + "/blob/v0.1/README.md"},
		{Name: "uuid", Value: uuid},
		{Name: "name", Value: name},
		{Name: "description", Value: description},
	}
}
