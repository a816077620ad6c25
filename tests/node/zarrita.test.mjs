// Reads a mounted zone store with zarrita, as TESSERA's viewers in the browser do. The store and
// what it must hold come from tests/with_store.py, through TESSERAFS_EXPECTED.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { FileSystemStore } from "@zarrita/storage";
import * as zarr from "zarrita";

const expected = JSON.parse(readFileSync(process.env.TESSERAFS_EXPECTED, "utf8"));
const window = [zarr.slice(...expected.rows), zarr.slice(...expected.cols)];

async function open(path, store = expected.store) {
  const root = zarr.root(new FileSystemStore(store));
  return zarr.open.v3(path ? root.resolve(path) : root, { kind: path ? "array" : "group" });
}

// Catches a group document that zarrita does not take, and attributes that viewers place it by.
test("the group has its transform and its code", async () => {
  const group = await open("");
  assert.deepEqual(group.attrs["spatial:transform"], expected.transform);
  assert.equal(group.attrs["proj:code"], "EPSG:32625");
});

// Catches consolidated metadata that lists other nodes than there are.
test("consolidated metadata lists the arrays", async () => {
  const store = await zarr.withConsolidatedMetadata(new FileSystemStore(expected.store), { format: "v3" });
  const listed = store.contents().map(({ path, kind }) => `${kind} ${path}`).sort();
  assert.deepEqual(
    listed,
    ["array /band", "array /easting", "array /embeddings", "array /northing", "array /scales", "array /spatial_ref", "group /"],
  );
});

// Catches a wrong shape, chunk shape or dtype, and values that zarrita puts elsewhere than NumPy does.
test("embeddings are int8 and equal", async () => {
  const array = await open("embeddings");
  assert.deepEqual(array.shape, expected.shape);
  assert.deepEqual(array.chunks, [1024, 1024, 128]);
  assert.equal(array.dtype, "int8");
  const { data } = await zarr.get(array, [...window, null]);
  assert.ok(data instanceof Int8Array);
  assert.deepEqual(Array.from(data), expected.embeddings);
});

// Catches nodata that is 0 or a garbled NaN.
test("scales are float32 with NaN where nothing is", async () => {
  const array = await open("scales");
  assert.equal(array.dtype, "float32");
  assert.ok(Number.isNaN(array.fillValue));
  const { data } = await zarr.get(array, window);
  assert.deepEqual(Array.from(data, (scale) => (Number.isNaN(scale) ? null : scale)), expected.scales);
});

// Catches coordinates that are cut, or of another type.
test("easting, northing and band are whole", async () => {
  for (const name of ["easting", "northing"]) {
    const { data } = await zarr.get(await open(name));
    assert.ok(data instanceof Float64Array);
    assert.deepEqual(Array.from(data), expected[name]);
  }
  const { data } = await zarr.get(await open("band"));
  assert.deepEqual(Array.from(data), Array.from({ length: 128 }, (_, band) => band));
});

// Catches a damaged tile that a viewer shows as water: the read must fail, not fill.
test("a damaged tile is an error", async () => {
  const array = await open("embeddings", expected.damaged);
  await assert.rejects(zarr.get(array, [0, null, null]), { code: "EIO" });
});
