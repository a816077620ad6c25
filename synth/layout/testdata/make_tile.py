#!/usr/bin/env python3
"""Write tile_north.json and tile_south.json: the root documents that zarr-python gives per-tile stores.

    make_tile.py                (needs zarr 3.4, pyproj)

As make_zoneyear.py: shape, chunks and attributes are those that package layout documents, the store is
written and consolidated by zarr-python, the grid mapping and the limits in degrees are pyproj's. The
test holds our documents against these byte for byte.
"""
import math
import pathlib
import re
import warnings

import zarr
from pyproj import CRS, Transformer

HERE, BANDS, ROWS = pathlib.Path(__file__).parent, 128, 128
warnings.simplefilter("ignore")  # consolidated metadata is not yet a clause of the specification


def convention(name, uuid, description):
    base = f"zarr-conventions/{name}"
    return {
        "schema_url": f"https://raw.githubusercontent.com/{base}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{base}/blob/v0.1/README.md",
        "uuid": uuid, "name": name, "description": description,
    }


def lattice(lon, lat, epsg):
    """Easting, northing, height, width of the tile, and its limits in degrees."""
    project = Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True).transform
    (ulx, uly), (urx, ury) = project(lon - 0.05, lat + 0.05), project(lon + 0.05, lat + 0.05)
    (llx, lly), (lrx, lry) = project(lon - 0.05, lat - 0.05), project(lon + 0.05, lat - 0.05)
    west, north = min(ulx, llx), max(uly, ury)
    height, width = round((north - min(lly, lry)) / 10), round((max(urx, lrx) - west) / 10)
    west, north = math.floor(west / 10) * 10.0, math.ceil(north / 10) * 10.0
    # Neither tile here touches the central meridian or the equator: the corners are the extremes.
    lons, lats = project([west, west + 10 * width] * 2, [north] * 2 + [north - 10 * height] * 2, direction="INVERSE")
    return west, north, height, width, [round(v, 7) for v in (min(lons), max(lons), min(lats), max(lats))]


def write(name, tile, lon, lat, year, dataset, model, version, made, place):
    zone = math.floor((lon + 180) / 6) + 1
    epsg = (32700 if lat < 0 else 32600) + zone
    west, north, height, width, (lon_min, lon_max, lat_min, lat_max) = lattice(lon, lat, epsg)
    east, south = west + 10 * width, north - 10 * height
    wkt = re.sub(r"USAGE\[.*?\]\],", "", CRS.from_epsg(epsg).to_wkt())  # package grid's has no area of use
    assert CRS.from_wkt(wkt) == CRS.from_epsg(epsg)
    transform = [10.0, 0.0, west, 0.0, -10.0, north]
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    store = zarr.storage.MemoryStore()
    root = zarr.open_group(store, mode="w")
    root.attrs.update({
        "Conventions": "CF-1.11, ACDD-1.3",
        "title": f"TESSERA embeddings of {year}, tile {tile}",
        "summary": "A vector of 128 numbers for each pixel of 10 m that sums up what Sentinel-1 and Sentinel-2 saw of it "
                   f"in {year}, made by the TESSERA foundation model, quantised: an embedding is embeddings × scales. "
                   f"The tile is the cell of 0.1° centred at {place}, in pixels of its UTM zone.",
        "keywords": "TESSERA, embeddings, foundation model, Earth observation, land surface, Sentinel-1, Sentinel-2",
        "id": f"{dataset}/{year}/{tile}",
        "naming_authority": "org.geotessera",
        "source": f"{model}, from a year of Sentinel-1 and Sentinel-2 observations",
        "processing_level": "Level 4",
        "history": f"{made}: the newest of the tile's objects was written. tesserafs shows them as they are; nothing was converted.",
        "comment": "Where scales is NaN there is no embedding. Tiles overlap their neighbours.",
        "license": "CC0-1.0, https://creativecommons.org/publicdomain/zero/1.0/",
        "acknowledgement": "Attribution is asked for, not required: Feng et al., TESSERA: Temporal Embeddings of Surface "
                           "Spectra for Earth Representation and Analysis, https://arxiv.org/abs/2506.20380",
        "references": "https://arxiv.org/abs/2506.20380",
        "metadata_link": "https://github.com/ucam-eo/geotessera",
        "project": "TESSERA",
        "institution": "University of Cambridge",
        "creator_name": "TESSERA", "creator_type": "group", "creator_institution": "University of Cambridge",
        "creator_url": "https://geotessera.org",
        "publisher_name": "GeoTessera", "publisher_type": "group", "publisher_url": "https://geotessera.org",
        "date_created": made, "date_modified": made,
        "standard_name_vocabulary": "CF Standard Name Table v93",
        "cdm_data_type": "Grid",
        "geospatial_lat_min": lat_min, "geospatial_lat_max": lat_max,
        "geospatial_lat_units": "degrees_north", "geospatial_lat_resolution": "10 m",
        "geospatial_lon_min": lon_min, "geospatial_lon_max": lon_max,
        "geospatial_lon_units": "degrees_east", "geospatial_lon_resolution": "10 m",
        "geospatial_bounds": "POLYGON ((" + ", ".join(f"{x:.0f} {y:.0f}" for x, y in corners) + "))",
        "geospatial_bounds_crs": f"EPSG:{epsg}",
        "time_coverage_start": f"{year}-01-01T00:00:00Z", "time_coverage_end": f"{year}-12-31T23:59:59Z",
        "time_coverage_duration": "P1Y", "time_coverage_resolution": "P1Y",
        **({"product_version": version} if version else {}),
        "coordinates": "spatial_ref",
        "zarr_conventions": [
            convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f",
                       "Coordinate reference system information for geospatial data"),
            convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
        ],
        "proj:code": f"EPSG:{epsg}", "proj:wkt2": wkt,
        "spatial:dimensions": ["y", "x"], "spatial:bbox": [west, south, east, north],
        "spatial:transform_type": "affine", "spatial:transform": transform,
        "spatial:shape": [height, width], "spatial:registration": "pixel",
    })

    def array(name, dtype, shape, chunks, dims, fill, attributes):
        root.create_array(name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, compressors=None, filters=None,
                          dimension_names=dims, attributes=attributes)

    array("embeddings", "int8", (height, width, BANDS), (ROWS, width, BANDS), ["y", "x", "band"], 0, {
        "long_name": "TESSERA embedding, quantised", "units": "1", "grid_mapping": "spatial_ref",
        "ancillary_variables": "scales landmask", "coverage_content_type": "modelResult",
        "comment": "The embedding is embeddings × scales. Where scales is NaN there is none, whatever embeddings holds.",
    })
    array("scales", "float32", (height, width), (ROWS, width), ["y", "x"], float("nan"), {
        "long_name": "scale of the quantised embedding", "units": "1", "grid_mapping": "spatial_ref",
        "coverage_content_type": "auxiliaryInformation", "comment": "NaN: water, or no valid scale.",
    })
    array("landmask", "uint8", (height, width), (ROWS, width), ["y", "x"], 0, {
        "standard_name": "land_binary_mask", "long_name": "landmask of the tile", "units": "1",
        "grid_mapping": "spatial_ref", "coverage_content_type": "thematicClassification",
        "comment": "0: water; otherwise land. 1 throughout where the archive has no landmask of the tile.",
    })
    for axis, what, length in ("x", "easting", width), ("y", "northing", height):
        array(axis, "float64", (length,), (length,), [axis], 0.0, {
            "standard_name": f"projection_{axis}_coordinate", "long_name": f"{what} of pixel centres", "units": "m",
            "axis": axis.upper(), "coverage_content_type": "coordinate",
        })
    array("band", "int32", (BANDS,), (BANDS,), ["band"], 0, {
        "long_name": "embedding dimension", "units": "1", "coverage_content_type": "coordinate"})
    cf = CRS.from_epsg(epsg).to_cf()
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
        "GeoTransform": f"{west} 10.0 0.0 {north} 0.0 -10.0",
        "long_name": "coordinate reference system",
    })
    zarr.consolidate_metadata(store)
    (HERE / name).write_bytes(store._store_dict["zarr.json"].to_bytes())


write("tile_north.json", "grid_0.15_52.05", 0.15, 52.05, 2024, "v1", "TESSERA model 1.0, variant vultr", "1.0",
      "2026-01-05T12:34:56Z", "52.05° N, 0.15° E")
write("tile_south.json", "grid_-70.65_-33.45", -70.65, -33.45, 2017, "mine", "TESSERA model", "",
      "1970-01-01T00:00:00Z", "33.45° S, 70.65° W")
