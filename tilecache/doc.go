// Package tilecache keeps the objects of a source open: the files of an archive, or later the pages
// of remote objects, which the rest of the project reads by range.
//
// # The way of a read
//
//	o, err := cache.Open(ctx, name)        // kept open, or opened once for all who ask
//	defer o.Release()
//	err = o.ReadAt(ctx, buf, off)
//	err = o.Check(ctx)                     // last, before the reply is sent
//
// ReadAt is the only way to the bytes, wherever they lie. Local objects are not mapped: handing
// pieces of a mapping to the kernel instead of copying them was as quick at its best and a third slower
// at its worst, as mapping and unmapping pages takes as long as copying them does; and
// mapped pages count as memory of this process.
//
// # What is kept, and how much of it
//
// Objects stay open, the most recently opened of them, up to Config.OpenObjects. An object is
// counted by its holders and by the cache: one that leaves the cache closes when its last holder
// releases it. So files open are at most OpenObjects and those in use.
//
// Bytes of local objects are kept by the kernel's page cache, not here.
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
//   - Failures to open are not remembered.
package tilecache
