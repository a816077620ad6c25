#!/usr/bin/env python3
"""Write zoneyear.json: the root document that zarr-python gives a zone-year store.

    make_zoneyear.py            (needs zarr 3.4, pyproj, numpy)

The store has the shape, chunks and attributes that package layout documents, is written by
zarr-python into memory and consolidated by it. The test holds our document against it byte for
byte, so the order of the attributes is part of what is tested.
"""
import pathlib
import re
import warnings

import zarr
from pyproj import CRS

ZONE, YEAR, EASTING, NORTHING, HEIGHT, WIDTH, BANDS = 30, 2024, 600000.0, 5800000.0, 1500, 2100, 128

warnings.simplefilter("ignore")  # consolidated metadata is not yet a clause of the specification
# The WKT that package grid writes has neither area of use nor scope.
wkt = re.sub(r"USAGE\[.*?\]\],", "", CRS.from_epsg(32600 + ZONE).to_wkt())
assert CRS.from_wkt(wkt) == CRS.from_epsg(32600 + ZONE)
transform = [10.0, 0.0, EASTING, 0.0, -10.0, NORTHING]


def convention(name, uuid, description):
    base = f"zarr-conventions/{name}"
    return {
        "schema_url": f"https://raw.githubusercontent.com/{base}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{base}/blob/v0.1/README.md",
        "uuid": uuid, "name": name, "description": description,
    }


store = zarr.storage.MemoryStore()
root = zarr.open_group(store, mode="w")
root.attrs.update({
    "utm_zone": ZONE, "year": YEAR, "crs_epsg": 32600 + ZONE, "crs_wkt": wkt, "transform": transform,
    "pixel_size_m": 10.0, "geotessera_version": "unknown", "tessera_dataset_version": "v1", "n_tiles": 0,
    "Conventions": "CF-1.11", "coordinates": "spatial_ref",
    "zarr_conventions": [
        convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f",
                   "Coordinate reference system information for geospatial data"),
        convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    ],
    "proj:code": f"EPSG:{32600 + ZONE}", "proj:wkt2": wkt,
    "spatial:dimensions": ["northing", "easting"],
    "spatial:bbox": [EASTING, NORTHING - 10.0 * HEIGHT, EASTING + 10.0 * WIDTH, NORTHING],
    "spatial:transform_type": "affine", "spatial:transform": transform,
    "spatial:shape": [HEIGHT, WIDTH], "spatial:registration": "pixel",
})


def array(name, dtype, shape, chunks, dims, fill, attributes):
    root.create_array(name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, compressors=None, filters=None,
                      dimension_names=dims, attributes=attributes)


array("embeddings", "int8", (HEIGHT, WIDTH, BANDS), (1024, 1024, BANDS), ["northing", "easting", "band"], 0, {
    "long_name": "TESSERA embedding, quantised", "units": "1", "grid_mapping": "spatial_ref",
    "comment": "The embedding is embeddings × scales. Where scales is NaN there is none, and embeddings is 0.",
})
array("scales", "float32", (HEIGHT, WIDTH), (1024, 1024), ["northing", "easting"], float("nan"), {
    "long_name": "scale of the quantised embedding", "units": "1", "grid_mapping": "spatial_ref",
    "comment": "NaN: water, no valid scale, or no tile.",
})
array("easting", "float64", (WIDTH,), (WIDTH,), ["easting"], 0.0, {
    "standard_name": "projection_x_coordinate", "long_name": "easting of pixel centres", "units": "m", "axis": "X",
})
array("northing", "float64", (HEIGHT,), (HEIGHT,), ["northing"], 0.0, {
    "standard_name": "projection_y_coordinate",
    "long_name": "northing of pixel centres; negative south of the equator", "units": "m", "axis": "Y",
})
array("band", "int32", (BANDS,), (BANDS,), ["band"], 0, {"long_name": "embedding dimension"})
cf = CRS.from_epsg(32600 + ZONE).to_cf()
array("spatial_ref", "int64", (), (), None, 0, {
    "grid_mapping_name": cf["grid_mapping_name"],
    **{key: float(cf[key]) for key in (
        "longitude_of_central_meridian", "latitude_of_projection_origin", "scale_factor_at_central_meridian",
        "false_easting", "false_northing", "semi_major_axis", "semi_minor_axis", "inverse_flattening")},
    "reference_ellipsoid_name": cf["reference_ellipsoid_name"],
    "longitude_of_prime_meridian": float(cf["longitude_of_prime_meridian"]),
    **{key: cf[key] for key in (
        "prime_meridian_name", "geographic_crs_name", "horizontal_datum_name", "projected_crs_name")},
    "crs_wkt": wkt, "spatial_ref": wkt,
    "GeoTransform": f"{EASTING} 10.0 0.0 {NORTHING} 0.0 -10.0",
})
zarr.consolidate_metadata(store)
document = store._store_dict["zarr.json"].to_bytes()
pathlib.Path(__file__).with_name("zoneyear.json").write_bytes(document)
