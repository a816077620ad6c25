package vfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/tesserafs/tesserafs/vfs"
)

// errnoFS gives the errors of a tree, and its panics, the errno the suite for front doors knows.
type errnoFS struct{ fs.FS }

func (f errnoFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if _, ok := file.(io.ReaderAt); !ok {
		return file, nil
	}
	return errnoFile{file}, nil
}

type errnoFile struct{ fs.File }

func (f errnoFile) ReadAt(p []byte, off int64) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, fmt.Errorf("panic: %v: %w", v, syscall.EIO)
		}
	}()
	n, err = f.File.(io.ReaderAt).ReadAt(p, off)
	return n, errno(err)
}

func (f errnoFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	return n, errno(err)
}

func errno(err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, vfs.ErrChanged):
		return syscall.ESTALE
	default:
		return syscall.EIO
	}
}
