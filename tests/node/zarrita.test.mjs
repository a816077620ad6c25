// Reads mounted stores with zarrita, as TESSERA's viewers in the browser do. The stores and what they
// must hold come from tests/with_store.py, through TESSERAFS_EXPECTED.

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

// The consolidated store, each zone by its own address, as a viewer that knows its zone opens it.

const { consolidated } = expected;

async function openZone(path, store = consolidated.store) {
  const zone = zarr.root(new FileSystemStore(`${store}/utm25`));
  return zarr.open.v3(path ? zone.resolve(path) : zone, { kind: path ? "array" : "group" });
}

const part = (axis) => zarr.slice(...consolidated[axis]);

// Values in the order of the axes: zarrita leaves an array that is transposed in storage as it is
// stored, and says so by its strides.
function inOrder({ data, shape, stride }, axis = 0, offset = 0) {
  if (axis === shape.length) return [data[offset]];
  const step = stride[axis];
  return Array.from({ length: shape[axis] }, (_, i) => inOrder({ data, shape, stride }, axis + 1, offset + i * step)).flat();
}

// Catches a zone that does not say by itself where it lies and of which years, and a root above it
// that does not say what model its embeddings are of.
test("consolidated: a zone has its place and its years, the root its model", async () => {
  const { attrs } = await openZone("");
  assert.equal(attrs["proj:code"], "EPSG:32625");
  assert.deepEqual(attrs["spatial:transform"], consolidated.transform);
  assert.deepEqual(attrs["spatial:shape"], consolidated.shape.slice(2));
  const { data } = await zarr.get(await openZone("time"));
  assert.deepEqual(Array.from(data), [2024]);
  const root = await zarr.open.v3(zarr.root(new FileSystemStore(consolidated.store)), { kind: "group" });
  assert.equal(root.attrs["geoemb:model"], "https://geotessera.org/model/1.0");
  assert.equal(root.attrs["geoemb:dimensions"], 128);
});

// Catches probes for what other layouts have that are answered by anything but absence.
test("consolidated: what there is not is absent", async () => {
  const zone = new FileSystemStore(`${consolidated.store}/utm25`);
  for (const name of ["_chunk_manifest.json", "rgb/zarr.json", ".zgroup", ".zattrs", ".zmetadata"]) {
    assert.equal(await zone.get(`/${name}`), undefined, name);
  }
  await assert.rejects(openZone("rgb"), zarr.NodeNotFoundError);
  const other = zarr.root(new FileSystemStore(`${consolidated.store}/utm26`));
  await assert.rejects(zarr.open.v3(other, { kind: "group" }), zarr.NodeNotFoundError);
});

// Catches consolidated metadata that lists other nodes than there are, in the root and in the zone.
test("consolidated: root and zone list their nodes", async () => {
  const names = ["band", "embeddings", "scales", "spatial_ref", "time", "x", "y"];
  for (const [path, above] of [["", "/utm25"], ["/utm25", ""]]) {
    const store = await zarr.withConsolidatedMetadata(new FileSystemStore(consolidated.store + path), { format: "v3" });
    const listed = store.contents().map(({ path, kind }) => `${kind} ${path}`).sort();
    const groups = above ? ["group /", `group ${above}`] : ["group /"];
    assert.deepEqual(listed, [...names.map((name) => `array ${above}/${name}`), ...groups].sort());
  }
});

// Catches a codec that zarrita does not take (shards, transpose), and shards that it reads otherwise
// than NumPy does: it asks for the index by suffix, then for each inner chunk.
test("consolidated: embeddings are int8 and equal", async () => {
  const array = await openZone("embeddings");
  assert.deepEqual(array.shape, consolidated.shape);
  assert.equal(array.dtype, "int8");
  const [height, width] = [consolidated.rows, consolidated.cols].map(([from, to]) => to - from);
  for (const time of [0, zarr.slice(0, 1)]) {
    const window = await zarr.get(array, [time, null, part("rows"), part("cols")]);
    assert.ok(window.data instanceof Int8Array);
    assert.deepEqual(window.shape.slice(-3), [128, height, width]);
    assert.deepEqual(inOrder(window), consolidated.embeddings);
  }
  const pixel = await zarr.get(array, [0, null, consolidated.rows[0] + 50, consolidated.cols[0] + 70]);
  const want = Array.from({ length: 128 }, (_, band) => consolidated.embeddings[(band * height + 50) * width + 70]);
  assert.deepEqual(inOrder(pixel), want);
  const picture = await zarr.get(array, [0, 5, part("rows"), part("cols")]);
  assert.deepEqual(inOrder(picture), consolidated.embeddings.slice(5 * height * width, 6 * height * width));
});

// Catches band order that is not that: TESSERA's viewer takes slices only and reads band after band,
// whatever the strides, so it is --chunk-order=band that it must be given.
test("consolidated: in band order a viewer need not heed strides", async () => {
  const array = await openZone("embeddings", consolidated.in_bands);
  const { data, stride } = await zarr.get(array, [zarr.slice(0, 1), null, part("rows"), part("cols")]);
  assert.deepEqual(Array.from(data), consolidated.embeddings);
  assert.equal(stride.at(-1), 1);
});

// Catches water and no tile told apart wrongly: NaN and infinity.
test("consolidated: scales are NaN on water, infinite where no tile is", async () => {
  const array = await openZone("scales");
  assert.equal(array.fillValue, Infinity);
  const { data } = await zarr.get(array, [0, part("rows"), part("cols")]);
  const seen = Array.from(data, (scale) => (Number.isNaN(scale) ? null : scale === Infinity ? "Infinity" : scale));
  assert.deepEqual(seen, consolidated.scales);
});

// Catches coordinates that are cut, or of another type.
test("consolidated: x, y and band are whole", async () => {
  for (const name of ["x", "y"]) {
    const { data } = await zarr.get(await openZone(name));
    assert.ok(data instanceof Float64Array);
    assert.deepEqual(Array.from(data), consolidated[name]);
  }
  const { data } = await zarr.get(await openZone("band"));
  assert.deepEqual(Array.from(data), Array.from({ length: 128 }, (_, band) => band));
});

// Catches a damaged tile that a viewer shows as no tile: the read must fail, not fill.
test("consolidated: a damaged tile is an error", async () => {
  for (const [name, bands] of [["embeddings", [null]], ["scales", []]]) {
    const array = await openZone(name, consolidated.damaged);
    await assert.rejects(zarr.get(array, [0, ...bands, zarr.slice(500, 510), zarr.slice(90, 100)]), { code: "EIO" });
  }
});
