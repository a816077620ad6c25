// Package fusefs is the FUSE front door: it shows a tree of package vfs as a read-only directory, on
// go-fuse's package fs. Linux only.
//
//	s, err := fusefs.Mount("/mnt/tessera", tree, fusefs.Config{FsName: "/data/v1"})
//	…
//	s.Replace(tree)   // shows another tree from then on
//	err = s.Wait()    // until somebody unmounts it
//	err = s.Unmount() // or this process does
//
// # What is guaranteed
//
//   - Every system call that would change something fails with EROFS.
//   - An open never fails for what a file is made of. A failed read is EIO, or ESTALE for
//     vfs.ErrChanged, and never ENOENT, which Zarr clients take for a chunk to be filled. A tree's
//     panic, or an answer of the wrong length, is EIO too, and logged; the next read is as any other.
//   - Whoever is interrupted gets EINTR at once. What the tree works on for others goes on.
//   - A client never hangs, not even when the mount ends while it reads.
//   - Unmount always ends the mount ([Server.Unmount]). This process never touches its own mount: it
//     finds it in /proc/self/mountinfo.
//   - A path has the same inode number in every mount (see inodeNumber), and the same times and size,
//     so a second rsync finds nothing to do.
//
// # The way of a read
//
// kernel → go-fuse's loop → handle.Read → the file's ReadAt into the request's own buffer → go-fuse
// writes header and buffer with one writev(2). Requests are up to 1 MiB; the kernel splits longer
// reads.
//
// # What is kept, where, and for how long
//
//   - Names, attributes and the absence of names: by the kernel, for an hour. Trees do not change, and
//     what a Replace ends is taken back.
//   - Listings: by the kernel, as long as it has memory (FOPEN_CACHE_DIR).
//   - Files below 1 MiB: by the page cache (FOPEN_KEEP_CACHE), unless their Check fails at the open.
//   - Files from 1 MiB on: as hot copies, below; those that get none, by the page cache once they were
//     read about half or more, or 1 MiB of them once more (FOPEN_KEEP_CACHE, unless their Check fails, at the
//     open or up to 10 ms before), and before that not (FOPEN_DIRECT_IO).
//   - Volatile files: nothing, not even their attributes. Each open takes a snapshot that all its
//     reads are answered from; while one is open, stat shows the size of the newest.
//
// # Flags, and why
//
// Figures are dd's for a file of 128 MiB in steps of 1 MiB, Linux 6.18 on two cores of a virtual
// machine that had other work too, where a plain file in the page cache gives 6.3–7.6 GiB/s
// (BenchmarkRead).
//
//   - FOPEN_DIRECT_IO for big files: about half of a plain file's speed, half of the time
//     being the tree's own copying. Through the page cache a first read is no faster, takes half
//     as much processor time again and fills memory with what is mostly read once. The price:
//     reading again asks again, which hot copies and the page cache are for.
//     CAP_DIRECT_IO_ALLOW_MMAP keeps numpy.memmap working.
//   - FOPEN_KEEP_CACHE for small ones, as they are opened often (zarr.json, coordinates) and a few
//     requests get them whole.
//   - FOPEN_KEEP_CACHE for big files that were read before: the second read fills the page cache, with
//     a read-ahead of 1 MiB as root, and those after it have about a plain file's speed for as long as the
//     kernel has room. It takes the memory back by itself. With 4 MiB the second read of eight readers took
//     three times as long.
//   - FOPEN_NOFLUSH: nothing is written, so closing a file needs not ask.
//   - MaxWrite 1 MiB, which bounds reads too, with DisableSplice: splicing fails for requests of that
//     length, and copying is as fast.
//   - CAP_READDIRPLUS_AUTO: attributes come with a listing only where they are asked for. For 100,000
//     names ls takes 0.05 s instead of 0.6, and ls -l no longer. 50,000 names take 28 ms at first
//     and 16 ms later, against 25 ms on ext4 (BenchmarkList).
//   - default_permissions: the kernel checks the mode bits (0444, 0555) and never asks.
//   - st_blksize 128 KiB, the least that cp reads anyway. Python's buffered files fetch that much for
//     a short read after a seek; with 1 MiB they would fetch that.
//   - st_nlink 1, for directories too, which says that subdirectories are not counted, as btrfs does.
//     With 2 fts(3) would not look into them.
//   - MS_RDONLY, MS_NOSUID and MS_NODEV, or fusermount3's equal: EROFS comes from the kernel.
//
// # Reading ahead
//
// Whoever reads a big file from end to end asks for 1 MiB after another, and the kernel for one at a time:
// while it takes a reply, nothing is made. So the reply to what comes next is made meanwhile, if a
// processor has nothing else to do, in one of 16 buffers of 1 MiB, and given without a copy: a first read
// is half as fast again. It is dropped when the reader goes elsewhere, closes the file, or does not ask
// within a second, and looked at again (vfs.Checker) when it has waited for more than 10 ms. With as many
// readers as processors nothing is read ahead.
//
// # Hot copies
//
// With Config.HotBytes, as root, on Linux 6.9 or later, files from 1 MiB on that were read about half or
// more are copied in the background into unlinked files of a private tmpfs with huge pages: at once when
// they are opened a second time, and after one reading when nobody has read anything for 250 ms. The next
// open lets the kernel read that copy by itself (FUSE passthrough): 0.95
// to 1.02 of a plain file's speed, without this process. The copies are memory of the system, counted by
// HotBytes, not of this process; clients that still map a dropped copy hold on to it beyond that.
// Where passthrough is not to be had it is off, with one line at debug level. A copy that cannot be
// made says nothing: readers get their errors from their own reads.
//
// The kernel refuses opens that mix the two kinds of handles on one file, so while handles ask this
// process, new ones do, and while handles read a copy, new ones do. An open waits a moment for a
// copy being made just then (200 ms at most, once for each copy) and for a close the kernel has not
// told of yet (5 ms). When room is short a copy makes way only for files that were opened more often
// of late, by two at least; reading through more files than fit, once or each day, changes nothing.
//
// A file that is a vfs.Checker is checked at each open before its copy is shown; when it has changed
// the copy is dropped, for good, and reads fail as the tree says. Only where another client still
// has the copy open does an open join it, and gets the bytes that client sees, which are those from
// before the change.
//
// # Another tree
//
// [Server.Replace] puts another tree in the place of the one shown. Rules, and what holds them:
//
//   - A file is of one tree. Where another tree has a file at the same path, it has the same inode number
//     but is another node to the kernel: with a page cache, a size and a hot copy of its own. So nothing
//     is compared, and an open file or a mapping cannot come to show bytes of two trees.
//   - A directory stays one node, and finds out by its path what it is in the tree shown (dirNode.now). So
//     those who sit in it stay there.
//   - An open directory goes on with the listing it began, and with that of the tree shown when it is
//     rewound. The offsets of two trees differ, as the kernel puts listings together by them.
//   - What the kernel keeps is taken back name by name: of every directory it knows the files, the
//     directories that are gone, the names it keeps as absent, the listing, the attributes. The absent names
//     are remembered for this, up to 262,144 of them; the kernel may not keep more.
//   - A look-up that was under way is waited for before that, so its answer is taken back with the rest.
//     An open that is late all the same is refused with ESTALE when nothing uses its tree any more; the
//     kernel then looks the path up again by itself, and the caller sees nothing of it.
//   - The tree replaced is used until its last file and directory is closed.
//
// A file that is itself mounted elsewhere (mount --bind) stays one of its tree, and cannot be opened there
// once that is released; a directory can. A directory whose listing was read in part when its tree was
// replaced is asked for at each listing until the kernel forgets it.
//
// # Memory
//
// A file or directory the kernel knows takes about 400 bytes of this process and 1.1 KiB of the
// kernel's, which forgets them when memory is short; a name it keeps as absent about 100 bytes here. A
// file that was read around the page cache takes one bit more for each 128 KiB.
// Each read under way has a buffer of its length.
package fusefs
