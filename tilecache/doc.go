// Package tilecache keeps the objects of a source open, which the rest of the project reads by range.
// Objects of remote sources it reads by pages, and keeps those in memory and on disk.
//
//	o, err := cache.Open(ctx, name)        // kept open, or opened once for all who ask
//	defer o.Release()
//	err = o.ReadRanges(ctx, ranges)        // all rows of a window at once
//	err = o.Check(ctx)                     // last, before the reply is sent
//
// ReadAt and ReadRanges are the only way to the bytes, wherever they lie.
//
// # The way of a read, of a local object
//
// With Config.Memory 0 a read is handed to the source's object as it is: the page cache of the kernel
// is the cache. Local objects are not mapped: handing
// pieces of a mapping to the kernel instead of copying them was as quick at its best and a third slower
// at its worst, as mapping and unmapping pages takes as long as copying them does; and
// mapped pages count as memory of this process.
//
// # The way of a read, of a remote object
//
// A read is taken apart into pieces, one for each page of 16 KiB that it touches. (One that touches more
// than a quarter of the memory goes on in steps of that.)
//
//	read.go    pieces find their pages in memory: copied, and that is all. Those under way are waited for.
//	           Those whose pages are on disk are filled from there, when the others have been asked for:
//	fetch.go   how to ask the source for them is planned
//	plan.go    from how it answers of late,
//	request.go each request in a goroutine of the cache's own. It brings fetches, pages that lie side by side in
//	           memory, which land as they come: all who wait copy from them.
//	pages.go   They stay in memory, the least recently used leaving it first; those of strips by blocks of
//	           1 MiB, so that the next lie side by side as well, and go from the socket to memory, and from there to
//	           disk and to readers, without another copy.
//	writer.go  What came from the source goes to disk behind the readers' backs.
//	ahead.go   A read that goes on where others ended has more fetched than it wants.
//
// Opening an object brings its first 32 KiB, which are pages at once (source.Prefixed): headers, and
// landmasks whole, cost no other request. An object that was closed to keep others open, and is wanted
// again, costs no request either: what it was is remembered, and it is opened when a page is
// missing. After another start of the program each object is opened once more, to see that it still is what
// the pages on disk are of.
//
// # What requests cost, and how they are planned
//
// A request takes the source's latency, then its bytes at the bandwidth of one connection; so many
// connections work side by side (Config.Pace). A window narrower than its tile is many short runs of
// pages with gaps of up to 143 kB between them. Joining two saves a latency and costs the gap's time;
// cutting a long run in two costs a latency and saves waiting. Every mixture of both is looked at in some
// 30 µs, and of those within 1.3 of the quickest the one is taken that keeps connections busy for the
// least time. At 30 ms and 100 MB/s that is strips of whole rows, cut into parts that arrive side by
// side; at 1 ms and 10 MB/s it is the rows alone. What comes between the rows is kept too: it is the next
// columns of a reader that goes through the window by chunks. Rows of a window are ranges each as far from the
// one before, however short: they are joined all or none, from where the first begins to where a row after the
// last would, so that the next reader finds no holes. Nothing is read over gaps of more than
// 256 KiB, so that points cost two pages at most.
//
// # Reading ahead
//
// Up to 4 streams are followed in each object. A stream is reads that begin about where the furthest ended,
// or in the same rows beside it: in order or not, whole rows or some columns of them. It reads ahead
// from its second read on (short reads: the fourth), at first what the source sends within its latency
// or twice the read, then with each read twice as much up to 32 MiB, or of rows that are far apart up to 12 MiB or
// twice the read, never beyond the object. Object.Expect asks for what a caller knows to be wanted soon. All
// streams together have half of all pages for what was not yet used, of which none takes
// more than half of what is left; what is left behind, or not used within 5 s, no longer counts.
// Requests for it take at most three quarters of the connections, half of what is free at a time, and none while the
// source fails: one that is wanted finds a connection. They are of 1 MiB at least, and as large as a connection
// brings in 4 ms, up to 4 MiB.
//
// Where a few connections fill the line (312 MB/s each, or more), a stream has one long request instead, from where
// it is to the object's end: each window goes on with it, and while no window comes its connection waits, for up to a second. So a
// tile read in order takes one request, no window waits a latency, and a server sends it whole, out of a file as it is, at half
// the processor time of ranges (versitygw: 0.25 s a GB instead of 0.6). What breaks off or stalls is asked for by short
// requests, which have all the patience; after 2 s it is asked for anew, as servers look at If-Match once a request.
//
// A window of 1,000 × 1,000 pixels over 2 × 2 tiles, 30 ms away over a line of 1 GB/s, takes 5 to 6
// round trips and the bytes of the rows it covers, read by chunks of 64 pixels ten at a time, two of
// the round trips being opens; by rows of such chunks, six of them at a time, 6; as four chunk files of
// 128 MiB, each read by 1 MiB in order, 4 to 5. At most 1.2 times the bytes of those rows are fetched. (ahead_test.go)
//
// # What is kept, and how much of it
//
// Objects stay open, the most recently opened of them, up to Config.OpenObjects. An object is
// counted by its holders and by the cache: one that leaves the cache closes when its last holder
// releases it. So files open are at most OpenObjects and those in use.
//
// Of Config.Memory three quarters are pages, those under way and what is known of each (256 bytes) among
// them. They are written to disk from where they are: as much as a quarter of the memory may wait for that, and what comes
// when it does is not kept there. A quarter is left for what Warm asks for and for all that is not pages. Pages are
// used again and again, so that reading from memory allocates nothing, and a stream from the source 2 % of
// its bytes. A read for which there is no room waits until others give some back, first come, first served.
//
// # What is guaranteed
//
//   - Contexts end waits, not shared work: callers who ask for one name at once share one open, those
//     who want one page one fetch, and it goes on for the others, and for the cache, when one of them
//     leaves.
//   - A page serves the state of the object that it was read of, and no other. It is kept when all of its bytes have
//     come as asked. A server says of which state they are when it is asked: of files that are overwritten in place under
//     a server that goes on sending, the bytes of up to two seconds may be of the next. (Objects of S3 are not overwritten so.)
//   - The Info an object had when it was first seen is remembered after it was closed, for the last
//     262,144 names (about 80 MB of them at the most). An object that has another when it is opened
//     again, or is gone, fails with source.ErrChanged until Forget. One that is gone fails with
//     fs.ErrNotExist as well.
//   - An object that was found changed leaves the cache, and its pages leave memory; its holders keep
//     getting ErrChanged. Pages are served until a request finds the change: with Forget, or when one is
//     missing.
//   - Failures to open and to fetch are told to all who wait, and not remembered.
//   - What is on disk is read from there, through the page cache of the kernel, and not kept in memory as well.
//   - What fails on disk costs a fetch. Pages that the disk is too slow for are not kept there.
//   - Offline, what is not on disk fails with source.ErrUnavailable. Absent is only what the source did not
//     have when it was last asked, which the disk cache notes.
//   - With Config.Verify, an object of which three quarters of the pages have been read is read once more
//     in the background, from memory, disk, and what neither has from the source, and held against its
//     checksums. One that differs fails all reads from then on with ErrDamaged, and its pages are gone.
//     What was read of it before was as it is; an object of more than 1 GiB is not looked at. (verify.go)
//   - Close ends every goroutine the cache began.
package tilecache
