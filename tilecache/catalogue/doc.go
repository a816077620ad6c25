// Package catalogue is which tiles an archive has: read from a manifest, or found by scanning.
//
// # Objective
//
// Whatever is shown of an archive, shapes, sizes, times and which chunks exist, is known before any
// tile is opened. It follows from the list of tiles, and this room makes that list: for a planet of
// 14 million tiles as quickly as for four, and in little memory. It also knows where in the source a
// tile's objects lie.
//
// # The way of a call
//
// [Open] looks at the directories of the source to see which layouts there are (discover.go, layout.go).
// It opens a dataset's manifest, if there is one, through a copy where the source is elsewhere
// (copies.go): the footer first (parquet.go), then of each row group the
// columns that are used and no others (parquet_pages.go), several row groups at once. Rows become
// tiles in batches (rows.go, manifest.go). Datasets without a manifest, and those that a manifest of
// several does not name, are scanned (scan.go). Landmasks are read likewise (landmasks.go). In the
// end tiles are put in order and summed up by zone (tiles.go); from then on nothing changes, and all
// questions are answered from memory (dataset.go).
//
// [Locate] goes before: it finds the archive that a path of this machine names, and [LocateRemote] the
// one at an address.
//
// # Layouts
//
// One source may hold several datasets, in several layouts. A dataset that lies in two is taken from
// the first of
//
//	current  npy/<dataset>/<year>/grid_<lon>_<lat>/, landmasks/<version>/
//	         registries: npy/<dataset>/manifest.parquet, landmasks/<version>/landmasks.parquet
//	mirror   <version>/global_0.1_degree_representation[.<variant>]/<year>/grid_<lon>_<lat>/,
//	         <version>/global_0.1_degree_tiff_all/
//	         registries: manifest.parquet and landmasks.parquet at the top, of all datasets
//	flat     global_0.1_degree_representation/<year>/grid_<lon>_<lat>/, global_0.1_degree_tiff_all/
//	         registries: none usually, otherwise as a mirror's
//
// where <version> is v1, v1.1, v2. A tile is grid_<lon>_<lat>.npy and grid_<lon>_<lat>_scales.npy, a
// landmask grid_<lon>_<lat>.tiff.
//
// A dataset is called by its published directory name; datasets.go has the table of those. A mirror's
// directory without a variant in its name is called by its version, and holds any variant that has
// no directory of its own. The flat layout does not tell what was downloaded into it: its dataset is
// called v1.
//
// Landmasks are published by version: those of v1.1-cam are in landmasks/v1.1. landmasks/v2 is a
// copy of landmasks/v1.1 that upstream's own builds of version 2 do without; it is used where it
// exists, and otherwise landmasks/v1.1 is, whose masks are all land where they exist at all. They
// end at 59.55°S, where version 2 goes on to 89.95°S: the tiles beyond have no landmask, which means
// all land.
//
// # Manifests
//
// Three programs have written manifests, and all of their columns are understood:
//
//	s3scan     version, variant, year, lon, lat, directory, grid_path, scales_path, grid_mtime,
//	           scales_mtime, grid_size, scales_size, lon_i, lat_i
//	file-scan  the same without version and variant, times without a zone
//	legacy     lat, lon, year, hash, scales_hash, mtime, file_size, scales_size, lon_i, lat_i, geometry
//
// Needed are lat, lon, year, and grid_size or file_size. What is done with them:
//
//   - Rows of another version or variant are passed over, where there are columns that tell. If
//     several datasets are under one manifest, there must be.
//   - lon and lat decide which cell it is. lon_i and lat_i must not contradict.
//   - Of rows with the same year and cell the first counts. The order is made (year, lon, lat),
//     whatever the file's: where tiles overlap, the last in this order wins.
//   - Paths are not read. They are where the manifest's writer had the tiles.
//   - The time of a tile is the newest of grid_mtime, scales_mtime, mtime and its landmask's, in
//     whole seconds. A tile with none of the first three has the manifest's own. Times without a
//     zone are taken as UTC.
//   - Sizes and times may be missing in some rows, except grid_size or file_size.
//
// A manifest that is wrong anywhere is refused as a whole, with the file, the column and the row: a
// row that cannot be right says that the rest cannot be trusted. Wrong is a needed column or value
// that is missing, NaN, a place that is no tile's centre, a year outside 1 to 9999, a negative size,
// a time outside 1970 to 2106. Values may be of any Parquet type that can hold them: 4 or 8 bytes,
// floats for whole numbers, timestamps of any unit or seconds as numbers.
//
// A landmask registry needs lat, lon and file_size, and may have mtime. A size of 0 says that there
// is no mask. Without a registry the landmasks are those that lie in their directory.
//
// # Scanning
//
// Without a manifest, tiles are the directories named for a cell in the directories named for a
// year; other names are passed over, with a line in the debug log. A tile that lacks an object is a
// tile all the same, of size -1: reading it fails. Were it left out, it would be shown as a place
// without data.
//
// # Elsewhere
//
// A manifest has 200 MB, so of a source elsewhere it is fetched once, into Config.Dir: by pieces of 8 MiB,
// several at a time, each of the state that was opened (fetch.go). From then on opening an archive asks
// about each manifest and registry with one request (If-None-Match, where the source has ETags; otherwise that
// of opening it), and fetches those that are not what they were. Of
// several processes one fetches and the others wait. A copy is one file with its own header and
// checksum, put in place when it is whole and on the disk (kept.go): one that is damaged, cut or of another
// version costs a fetch. Where no copy can be kept, objects are read from the source, each time.
//
// While the source cannot be reached, the copies are used, and the catalogue says so ([Dataset.Stale]).
// That it could not be reached is source.ErrUnavailable, a source.Transient, or a failure to connect or to
// find the host; an answer, that an object is not there or may not be read, is taken as one. What was
// last answered is kept too: that there is no such object, which directories there are, and where an
// archive was found. With Config.Offline nothing else is used. Tiles that were scanned are not kept.
//
// A source that cannot list its directories, as most web servers, is asked for what the layouts have
// (probe.go): for the manifests of Config.Candidates, and for a manifest at the top, beside which the
// directories of tiles are found by a few tiles that it lists. An archive of which none has a manifest is
// not found there. Landmasks without a registry are not known there, nor while they cannot be listed:
// that makes no pixel another, for a tile's landmask is asked for when it is read, but such a landmask's
// time does not count for its tile's.
//
// # Files that nobody vouches for
//
// A manifest may be damaged or made to do harm. It is read with Apache's Parquet library, which
// trusts what a file says of itself: it allocates by counts and sizes in the file, panics on damaged
// data and loops forever on some. Therefore the footer and each page header are held against the
// file's real size before the library sees them, compressed pages must have the size they are said
// to have, panics of the library become errors, and what is inside a page is decoded here
// (parquet_limits.go, parquet_pages.go, parquet_rle.go). Files of more than 4 GiB or 100 million rows
// are refused. Compression may be snappy, gzip, zstd or none; encodings are plain and dictionary, as
// pandas and its like write them.
//
// # Guarantees
//
// A [Catalogue] is the state that was found by [Open], and never changes. To look again is to open again,
// with Config.Previous: what is the same still is neither read nor in memory twice, and [Catalogue.Equal]
// says whether all is. It takes 16 bytes for a tile ([Catalogue.Memory]), and while a planet of them is
// read some 100 MB more. Contexts end listing, reading, fetching and waiting for another process;
// no goroutine outlives Open.
package catalogue
