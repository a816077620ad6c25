// Package disk keeps pages of remote objects in a directory that several processes share, bounded in
// bytes as the filesystem really uses them. Linux only.
//
//	c, err := disk.Open("/home/ann/.cache/tesserafs", disk.Config{Limit: 10 << 30})
//	o, err := c.Object("s3://tessera", "v1/2024/grid_0.15_52.05/grid_0.15_52.05.npy", info)
//	n := o.Read(ctx, 7, p)            // pages from the 7th on, as far as they are kept: n bytes of p
//	o.Write(7+n/disk.PageSize, p[n:]) // keeps the others once they are fetched, if it can
//	n = o.ReadPart(ctx, &x, 90_000, q) // the same of any bytes: those of pages that are kept, from here on
//
// # What is guaranteed
//
//   - A byte that is read is the byte that was written for this page of this state of this object, or
//     it is not read. A crash at any point, a torn page, a flipped bit, a truncated file, a sparse
//     hole, two processes writing or evicting at once, a file moved to another's place: each costs a
//     fetch. Every read verifies.
//   - A full disk, a broken one, a directory that may not be written to: reads go on, writes give up.
//     That is logged once, counted, and tried again after half a minute. Only Open fails, and only
//     where the directory cannot be used at all.
//   - The limit is kept; see below for how exactly.
//   - Nothing outside the directory's own subdirectory "pages-1" is touched or trusted; it is where
//     this version of the format lies. Files there that bear no name of this package's are left alone,
//     but count, as they take the room.
//
// # The directory
//
//	pages-1/total                              how many bytes are kept, and the lock (flock) for it
//	pages-1/4f/4f…-9b…                         one state of one object: header, index, pages
//	pages-1/4f/4f… -> 4f…-9b…                  the state of that object that was opened last
//	pages-1/4f/4f… -> absent-4f…               there was no such object when the source was last asked
//	pages-1/4f/new-…                           one of these, not yet there
//
// The first half of a name is a hash of the source and the object's name, the second half of the
// state: size, modification time, ETag. Directories are 0700, files 0600.
//
// One sparse file holds all of a state, so that it appears, ages and goes as one:
//
//	0       header   2 KiB: format, page size, source, name, size, time, ETag; SHA-256 of it all
//	2048    index    8 bytes for each page: its checksum, or 0 while the page is not kept
//	…       pages    16 KiB each, the last may be short, from the next multiple of 16 KiB on
//
// The header is compared whole with the one that is expected, so a collision of hashes is a miss.
// The checksum is 64 bits of XXH3, seeded with the object's identity and the page's number: a page of
// another object, state or place does not pass. CRC-32C takes 46 µs for a MiB instead of 28, beside
// the 125 that reading it takes, and lets one page in 4 billion pass for another; XXH64 takes 105.
//
// Pages are written before their index, and nothing is synced: order and durability do not matter, as
// whatever does not fit together is not there. For the same reason no lock is held for reading or
// writing pages, and two processes that write the same page write the same bytes. Files are not
// mapped: touching a mapping of a file that another truncates ends the process (SIGBUS), as does a
// full disk. The index is read with each call instead (0.3 µs), or, for all rows of one read, once for 512
// pages (Index), which also shows what other processes have kept since. An open Object is an open file and under 3 KiB of memory, whatever its size.
//
// Pages that lie one after another are read with one pread(2) for eight of them, straight into the
// caller's buffer, and checked while they are in the processor's cache: 0.76 to 0.78 of the speed of reading
// the file without a look at it, 0.7 for single pages (BenchmarkRead).
//
// A new state's file gets its header under another name and is renamed into place. Should two
// processes do so at once, the later takes the place of the earlier, whose pages cost another fetch.
// The link to the newest state is a symbolic link, since that is made and replaced in one step and
// takes no block: the filesystem must have them, and should have sparse files.
//
// # The limit
//
// All processes keep one total, in a file. A process takes room from it in steps of 1/128 of the
// limit, at most 16 MiB, before it writes; counting the directory is not needed to start. When a step
// would bring the total above 97 % of the limit, that process counts what the filesystem really uses
// (st_blocks of everything under pages-1), evicts down to 90 % of the limit, and writes the total
// anew: so mistakes of the total, such as steps of processes that were killed, live until then at the
// longest. Counting takes about a second for 50,000 states, with every processor busy, and memory for
// the 65,536 least recently used of them (10 MB). A Write may wait for that, also for another process
// to finish with it (5 s at most), so better call it off a reader's way. Nothing else waits.
//
// What other processes had taken but not yet written when the total was written anew is missing from
// it: the directory can pass 97 % of the limit by 1/128 of it, at most 16 MiB, for each other
// process, and by 256 KiB for each goroutine that writes. Processes may have different limits; the
// lowest rules.
//
// Least recently used states go first: the file's modification time, which reads renew at most once a
// minute. A state that is more than what must go loses only as much, by punching holes into it; so
// does the state being written when nothing else is left, which may be larger than the limit: it
// loses the pages that follow the one being written, round its end, which a sequential reader has not
// seen for longest. Where the filesystem punches no holes, states go whole. On a disk that is full
// before the limit is reached, a tenth of what is kept goes.
//
// An evicted state is unlinked and truncated, which frees its blocks even while others have it open.
// They find no pages in it any more, notice that it is unlinked, and open or make the new one; what
// they write just before that is gone when they close it.
package disk
