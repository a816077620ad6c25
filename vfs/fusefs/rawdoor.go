package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// rawDoor is go-fuse's file system, with what it does not do.
type rawDoor struct {
	fuse.RawFileSystem
	s       *Server
	backing sync.Map // of opens under way: their Cancel channel to an int32
}

// Open adds the kernel's name of a hot copy to the answer of an open. go-fuse would do that by itself
// (FilePassthroughFder), but counts a handle without a copy that is being closed as one with, when the
// next open has got a copy by then; the copy's name is then taken back while the kernel still needs it,
// and opens fail (seen with v2.12.1, bridge.Release).
func (d *rawDoor) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	status := d.RawFileSystem.Open(cancel, in, out)
	if id, ok := d.backing.LoadAndDelete(cancel); ok {
		out.BackingID = id.(int32)
	}
	return status
}

// Lookup is counted until go-fuse has hung what was found into its nodes, which is where Replace looks
// for what the kernel knows.
func (d *rawDoor) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer d.s.lookup().lookups.leave()
	return d.RawFileSystem.Lookup(cancel, header, name, out)
}

// ReadDirPlus looks up what it lists.
func (d *rawDoor) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer d.s.lookup().lookups.leave()
	return d.RawFileSystem.ReadDirPlus(cancel, in, out)
}
