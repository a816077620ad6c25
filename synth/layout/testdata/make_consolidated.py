#!/usr/bin/env python3
"""Write consolidated_root.json and consolidated_utm30.json: the documents of the root and of a zone's
group that zarr-python gives a consolidated store.

    make_consolidated.py            (needs zarr 3.4, pyproj, numpy)

The store has the shapes, shards and attributes that package layout documents, for a dataset of version
2.0 with the years 2017 and 2024 and the zones 30 and 5, is written by zarr-python into memory and
consolidated by it, the groups of the zones before the root. The test holds our documents against these
byte for byte, so the order of the attributes is part of what is tested.
"""
import pathlib
import re
import warnings

import zarr
from pyproj import CRS
from zarr.codecs import TransposeCodec

YEARS, BANDS, SHARD = 2, 128, 4096
# Zone: easting, northing, height and width.
ZONES = {30: (600000.0, 5800000.0, 8192, 4096), 5: (400000.0, -20000.0, 4096, 4096)}
INNER = {128: 32, 4: 128, 16: 64}  # geotessera's own; depth_inner_chunk makes the last two of the first
SCALES_INNER = 256

warnings.simplefilter("ignore")  # consolidated metadata is not yet a clause of the specification


def convention(name, uuid, description):
    base = f"zarr-conventions/{name}"
    return {
        "schema_url": f"https://raw.githubusercontent.com/{base}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{base}/blob/v0.1/README.md",
        "uuid": uuid, "name": name, "description": description,
    }


def array(group, name, dtype, shape, chunks, dims, fill, attributes, shards=None, filters=None):
    group.create_array(name, shape=shape, chunks=chunks, shards=shards, dtype=dtype, fill_value=fill, compressors=None,
                       filters=filters, dimension_names=dims, attributes=attributes)


def zone_group(root, zone, easting, northing, height, width):
    # The WKT that package grid writes has neither area of use nor scope.
    wkt = re.sub(r"USAGE\[.*?\]\],", "", CRS.from_epsg(32600 + zone).to_wkt())
    assert CRS.from_wkt(wkt) == CRS.from_epsg(32600 + zone)
    group = root.create_group(f"utm{zone:02d}", attributes={
        "Conventions": "CF-1.11", "coordinates": "spatial_ref",
        "zarr_conventions": [
            convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f",
                       "Coordinate reference system information for geospatial data"),
            convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
        ],
        "proj:code": f"EPSG:{32600 + zone}", "proj:wkt2": wkt,
        "spatial:dimensions": ["y", "x"],
        "spatial:bbox": [easting, northing - 10.0 * height, easting + 10.0 * width, northing],
        "spatial:transform_type": "affine", "spatial:transform": [10.0, 0.0, easting, 0.0, -10.0, northing],
        "spatial:shape": [height, width], "spatial:registration": "pixel",
    })
    for bands, inner in INNER.items():
        name, band = ("embeddings", "band") if bands == BANDS else (f"embeddings_d{bands}", f"band_d{bands}")
        title = "TESSERA embedding, quantised"
        if bands < BANDS:
            title = f"first {bands} dimensions of the TESSERA embedding, quantised"
        array(group, name, "int8", (YEARS, bands, height, width), (1, bands, inner, inner), ["time", band, "y", "x"], 0, {
            "long_name": title, "units": "1", "grid_mapping": "spatial_ref",
            "comment": "The embedding is embeddings × scales where scales is finite. "
                       "Elsewhere there is none, whatever stands here.",
        }, shards=(1, bands, SHARD, SHARD), filters=[TransposeCodec(order=(0, 2, 3, 1))])
        array(group, band, "int32", (bands,), (bands,), [band], 0, {"long_name": "embedding dimension"})
    array(group, "scales", "float32", (YEARS, height, width), (1, SCALES_INNER, SCALES_INNER), ["time", "y", "x"],
          float("inf"), {
              "long_name": "scale of the quantised embedding", "units": "1", "grid_mapping": "spatial_ref",
              "comment": "NaN: water, or no valid scale. +inf: no tile.",
          }, shards=(1, SHARD, SHARD))
    array(group, "time", "int32", (YEARS,), (YEARS,), ["time"], 0, {"long_name": "year"})
    array(group, "y", "float64", (height,), (height,), ["y"], 0.0, {
        "standard_name": "projection_y_coordinate",
        "long_name": "northing of pixel centres; negative south of the equator", "units": "m", "axis": "Y",
    })
    array(group, "x", "float64", (width,), (width,), ["x"], 0.0, {
        "standard_name": "projection_x_coordinate", "long_name": "easting of pixel centres", "units": "m", "axis": "X",
    })
    cf = CRS.from_epsg(32600 + zone).to_cf()
    array(group, "spatial_ref", "int64", (), (), None, 0, {
        "grid_mapping_name": cf["grid_mapping_name"],
        **{key: float(cf[key]) for key in (
            "longitude_of_central_meridian", "latitude_of_projection_origin", "scale_factor_at_central_meridian",
            "false_easting", "false_northing", "semi_major_axis", "semi_minor_axis", "inverse_flattening")},
        "reference_ellipsoid_name": cf["reference_ellipsoid_name"],
        "longitude_of_prime_meridian": float(cf["longitude_of_prime_meridian"]),
        **{key: cf[key] for key in (
            "prime_meridian_name", "geographic_crs_name", "horizontal_datum_name", "projected_crs_name")},
        "crs_wkt": wkt, "spatial_ref": wkt,
        "GeoTransform": f"{easting} 10.0 0.0 {northing} 0.0 -10.0",
    })


GEOEMB = "geo-embeddings/embeddings-zarr-convention"
store = zarr.storage.MemoryStore()
root = zarr.open_group(store, mode="w", attributes={
    "zarr_conventions": [{
        "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c", "name": "geoemb:",
        "description": "Geoembeddings convention for geospatial embedding arrays with model provenance",
        "spec_url": f"https://github.com/{GEOEMB}/blob/v1/README.md",
        "schema_url": f"https://raw.githubusercontent.com/{GEOEMB}/refs/tags/v1/schema.json",
    }],
    "geoemb:type": "pixel", "geoemb:dimensions": BANDS, "geoemb:model": "https://geotessera.org/model/2.0",
    "geoemb:source_data": ["https://sentinel.esa.int/web/sentinel/missions/sentinel-1",
                           "https://sentinel.esa.int/web/sentinel/missions/sentinel-2"],
    "geoemb:data_type": "int8", "geoemb:gsd": 10.0, "geoemb:spatial_layout": "utm_zones",
    "geoemb:build_version": "unknown",
    "geoemb:quantization": {
        "method": "per_pixel_scale", "original_dtype": "float32", "quantized_dtype": "int8",
        "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
    },
    "geoemb:depths": [{"dimensions": 4, "array": "embeddings_d4"}, {"dimensions": 16, "array": "embeddings_d16"},
                      {"dimensions": 128, "array": "embeddings"}],
})
for zone, grid in ZONES.items():
    zone_group(root, zone, *grid)
    zarr.consolidate_metadata(store, path=f"utm{zone:02d}")
zarr.consolidate_metadata(store)
for name, key in ("root", "zarr.json"), ("utm30", "utm30/zarr.json"):
    document = store._store_dict[key].to_bytes()
    pathlib.Path(__file__).with_name(f"consolidated_{name}.json").write_bytes(document)
