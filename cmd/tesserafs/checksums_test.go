package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

// uploaded is the small archive in a bucket that keeps checksums, and the directory that the bucket is.
func uploaded(t *testing.T) (g *gateway.S3, dir string) {
	t.Helper()
	gateway.Environment(t.Setenv, true)
	g, dir, bucket := gateway.StartS3(t), t.TempDir(), "sums"
	g.Bucket(bucket, dir, false)
	archive := os.DirFS(archive4.Dir)
	if err := fs.WalkDir(archive, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(filepath.Join(archive4.Dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = g.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &name, Body: f, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return g, dir
}

// Catches objects that are read whole and are not held against what the source says of them, damage that is served
// on, told as something else or more than once, and a mount without --verify that asks for checksums.
func TestMountVerify(t *testing.T) {
	p := newPlace(t)
	g, dir := uploaded(t)
	files := archive4
	files.Dir = dir
	damaged := files.Files(archive4.Cells[1], 2023).Embeddings
	info, err := os.Stat(damaged)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(damaged, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("damage"), info.Size()/2)
	}
	if err := errors.Join(err, f.Close(), os.Chtimes(damaged, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	name, err := filepath.Rel(dir, damaged)
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(p.home, "log")
	mount := func(more ...string) {
		t.Helper()
		p.must(append([]string{"mount", "s3://sums", p.mnt, "--endpoint-url", g.URL, "--cache", filepath.Join(p.home, "cache"), "--daemon", "--log-file", log}, more...)...)
	}
	status := func() mountStatus {
		t.Helper()
		raw, err := readStatus(p.mnt)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseStatus(raw)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	read := func(year string) error {
		store := strings.ReplaceAll(p.store(), "2024", year)
		return errors.Join(readAll(filepath.Join(store, "scales", "c")), readAll(filepath.Join(store, "embeddings", "c")))
	}
	mount()
	if err := errors.Join(read("2023"), read("2024")); err != nil {
		t.Error(err)
	}
	time.Sleep(200 * time.Millisecond)
	if s := status(); s.Objects.Verified+s.Objects.Mismatched+s.Objects.WithoutChecksum > 0 || strings.Contains(p.must("status", p.mnt), "verified:") {
		t.Errorf("without --verify: %+v", s.Objects)
	}
	p.must("unmount", p.mnt)

	mount("--verify")
	t.Cleanup(func() { p.must("unmount", p.mnt) })
	if err := read("2024"); err != nil {
		t.Error(err)
	}
	if err := read("2023"); err != nil && !errors.Is(err, syscall.EIO) { // the end of it may be read after it was verified
		t.Error(err)
	}
	eventually(t, "all is verified", 20*time.Second, func() bool {
		s := status().Objects
		return s.Verified+s.Mismatched == 10 // two landmasks are of two years
	})
	s := status()
	if s.Objects.Verified != 9 || s.Objects.Mismatched != 1 || s.Objects.WithoutChecksum != 0 {
		t.Errorf("%+v", s.Objects)
	}
	if len(s.FailedTiles) != 1 || s.FailedTiles[0].Object != name || !strings.Contains(s.FailedTiles[0].Reason, "CRC64NVME") {
		t.Errorf("failed: %+v", s.FailedTiles)
	}
	if out := p.must("status", p.mnt); !strings.Contains(out, "9 objects, 1 damaged, 0 without a checksum") {
		t.Errorf("status says\n%s", out)
	}
	if err := read("2023"); !errors.Is(err, syscall.EIO) {
		t.Errorf("what is damaged: %v", err)
	}
	if err := read("2024"); err != nil {
		t.Errorf("another tile: %v", err)
	}
	if logged, err := os.ReadFile(log); err != nil || strings.Count(string(logged), "level=ERROR") != 1 || !strings.Contains(string(logged), name) {
		t.Errorf("logged\n%s%v", logged, err)
	}
}

// readAll reads all files below a directory.
func readAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			_, err = os.ReadFile(path)
		}
		return err
	})
}
