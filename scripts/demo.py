"""Open a zone store with xarray, print it, and save a false-colour picture: demo.py STORE DIRECTORY.

Nothing here knows of tesserafs: STORE is any Zarr store of TESSERA embeddings.
"""
import pathlib
import sys

import matplotlib.image
import numpy as np
import xarray as xr

RED_GREEN_BLUE = [0, 1, 2]  # of 128 bands, which mean nothing one by one


def picture(dataset, most=2000):
    """Red, green, blue and alpha of three bands, dequantised, each stretched between its 2nd and 98th
    percentiles; nodata is transparent. At most so many pixels a side."""
    step = max(1, -(-max(dataset.sizes["northing"], dataset.sizes["easting"]) // most))
    small = dataset.isel(northing=slice(None, None, step), easting=slice(None, None, step))
    values = (small.embeddings.isel(band=RED_GREEN_BLUE) * small.scales).values
    low, high = np.nanpercentile(values, [2, 98], axis=(0, 1))
    colours = np.clip((values - low) / (high - low), 0, 1)
    opaque = np.isfinite(values).all(axis=2, keepdims=True)
    return np.concatenate([np.where(opaque, colours, 0), opaque], axis=2)


def main(store, directory):
    dataset = xr.open_zarr(store)
    print(dataset)
    image = picture(dataset)
    path = pathlib.Path(directory) / (pathlib.Path(store).stem + ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    matplotlib.image.imsave(path, image)
    print(f"\n{path}: {image.shape[1]} x {image.shape[0]} pixels, {image[..., 3].mean():.0%} of them data")


if __name__ == "__main__":
    main(*sys.argv[1:])
