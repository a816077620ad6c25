package tilecache

import "sync/atomic"

// Stats counts what a Cache has done and holds. Pages have 16 KiB; what is of them is 0
// where there are none.
type Stats struct {
	OpenObjects int64 `json:"open_objects"` // now, those that left the cache but are in use among them
	Opens       int64 `json:"opens"`        // times the source was asked to open an object
	BytesRead   int64 `json:"bytes_read"`   // that readers wanted and got

	Requests     int64 `json:"requests"`      // ranges the source was asked for, besides opens
	BytesFetched int64 `json:"bytes_fetched"` // that came of them
	MemoryHits   int64 `json:"memory_hits"`   // pages that readers found in memory
	DiskHits     int64 `json:"disk_hits"`     // pages that came from disk
	SourcePages  int64 `json:"source_pages"`  // pages that came from the source
	Waits        int64 `json:"waits"`         // pages that readers found under way for others
	Fetches      int64 `json:"fetches"`       // requests under way now, but for long ones that pause

	AheadBytes     int64 `json:"ahead_bytes"`      // that were fetched before they were wanted
	AheadBytesUsed int64 `json:"ahead_bytes_used"` // of the pages read ahead, those wanted since
	MemoryPages    int64 `json:"memory_pages"`     // in memory now
	MemoryBytes    int64 `json:"memory_bytes"`     // what they take
	DroppedWrites  int64 `json:"dropped_writes"`   // pages not kept on disk because it was too slow

	// Of objects that were read whole, with Config.Verify, pages or none.
	Verified        int64 `json:"verified"`         // their checksums fit
	Mismatched      int64 `json:"mismatched"`       // they do not: they are not read any more
	WithoutChecksum int64 `json:"without_checksum"` // there is none
}

// counts are the parts of Stats that only grow.
type counts struct {
	read, requests, fetched, memory, disk, source, waits, ahead atomic.Int64
	verified, mismatched, unsummed                              atomic.Int64
}

// Stats says what the cache has done and holds.
func (c *Cache) Stats() Stats {
	n := &c.counts
	s := Stats{
		OpenObjects:  c.openNow.Load(),
		Opens:        c.opens.Load(),
		BytesRead:    n.read.Load(),
		Requests:     n.requests.Load(),
		BytesFetched: n.fetched.Load(),
		MemoryHits:   n.memory.Load(),
		DiskHits:     n.disk.Load(),
		SourcePages:  n.source.Load(),
		Waits:        n.waits.Load(),
		Fetches:      c.requestsNow.Load(),
		AheadBytes:   n.ahead.Load(),

		Verified: n.verified.Load(), Mismatched: n.mismatched.Load(), WithoutChecksum: n.unsummed.Load(),
	}
	if c.pages != nil {
		s.DroppedWrites = c.writer.dropped.Load()
		s.AheadBytesUsed, s.MemoryPages = c.pages.holds()
		s.MemoryBytes = s.MemoryPages * (pageSize + pageOverhead)
	}
	return s
}

// holds is how many bytes were used of those read ahead, and how many pages are in memory.
func (s *pageStore) holds() (usedBytes, kept int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used * pageSize, int64(s.kept.Len())
}
