// Package tilecache keeps the objects of a source open: the files of an archive, or later the pages
// of remote objects, which the rest of the project reads by range.
//
// # The way of a read
//
//	o, err := cache.Open(ctx, name)        // kept open, or opened once for all who ask
//	defer o.Release()                      // when the reply is sent
//	p, err := o.Refer(off, n)              // a piece of a reply, not copied
//	err = o.ReadAt(ctx, buf, off)          // or copied, where pieces are short or p is nil
//	err = o.Check(ctx)                     // last, before the reply is sent
//
// ReadAt and Refer are the only ways to the bytes, wherever they lie.
//
// # What is kept, and how much of it
//
// Objects stay open, the most recently opened of them, up to Config.OpenObjects. An object is
// counted by its holders and by the cache: one that leaves the cache closes when its last holder
// releases it. So files open are at most OpenObjects and those in use.
//
// Bytes of local objects are kept by the kernel's page cache, not here. But pages of a mapping that
// were used count as memory of this process until they are unmapped, so the cache follows which are:
// in stripes of 2 MiB, whose sum is at most Config.MappedBytes, and one stripe more for each Refer
// under way. A Refer into a resident stripe costs a few atomic loads. The first into any other
// stripe has the kernel read and map it whole; the stripe that was mapped longest ago and
// not used since (second chance) is unmapped for it. Unmapping a stripe that others refer to at that
// moment is harmless: the kernel maps its pages again when it needs them. What it so maps again is
// unmapped once more when the last holder of the object lets it go.
//
// # What is guaranteed
//
//   - Contexts end waits, not shared work: callers who ask for one name at once share one open, and
//     it goes on for the others, and for the cache, when one of them leaves.
//   - The Info an object had when it was first seen is remembered after it was closed, for the last
//     262,144 names (about 60 MB of them at the most). An object that has another when it is opened
//     again, or is gone, fails with source.ErrChanged until Forget. One that is gone fails with
//     fs.ErrNotExist as well.
//   - An object that was found changed leaves the cache; its holders keep getting ErrChanged.
//   - Go code never touches a mapping. A file truncated under one makes an error of the system call
//     that is given its bytes, EFAULT, not a signal. Refer finds truncated and unreadable stripes
//     when it maps them (Linux 5.14 or later), before a reply is begun; Check finds the rest up to
//     the moment it is called.
//   - Failures to open are not remembered.
//
// What a source.Mapper gives must be a mapping of a file, from a page's beginning on: unmapping a
// stripe of other memory would empty it.
package tilecache
