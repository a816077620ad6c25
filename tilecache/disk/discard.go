package disk

// Discard drops the pages of the state, whoever has it open: they are found to be other than they should be,
// although each is what was written. What is written afterwards is kept again.
func (o *Object) Discard() {
	f := o.open()
	if f == nil {
		return
	}
	bytes, unlinked, err := f.blocks()
	if err != nil || unlinked {
		return
	}
	c := o.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit += c.evict(stateFile{file: o.id.file, bytes: bytes}, bytes, 0)
}
