package source

import "context"

// Checksummer is a Source that may know checksums of its objects.
type Checksummer interface {
	Source

	// Checksum is the CRC-64/NVME of all bytes of an object, as the source keeps it; ok is false where it
	// keeps none. It fails as Open does.
	Checksum(ctx context.Context, name string) (crc64nvme uint64, ok bool, err error)
}
