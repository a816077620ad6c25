package remote_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

func TestMain(m *testing.M) {
	gateway.Environment(func(name, value string) { os.Setenv(name, value) }, false)
	goleak.VerifyTestMain(m)
}

// Catches an address that opens another source than it names, and a published archive that
// credentials or AWS_ENDPOINT_URL lead elsewhere.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	tile := filepath.Join(dir, "tessera", "tessera", "tile")
	if err := errors.Join(os.MkdirAll(filepath.Dir(tile), 0o755), os.WriteFile(tile, []byte{1, 2}, 0o644)); err != nil {
		t.Fatal(err)
	}
	g, web := gateway.StartS3(t), gateway.StartNginx(t, dir)
	g.Bucket("bucket", dir, true)
	g.Bucket("us-west-2.opendata.source.coop", dir, true)
	path := true
	for _, test := range []struct {
		address, name string
		cfg           remote.Config
	}{
		{"s3://bucket/tessera/tessera/", "s3://bucket/tessera/tessera at " + g.URL, remote.Config{Endpoint: g.URL}},
		{"S3://bucket/tessera/tessera", "s3://bucket/tessera/tessera at " + g.URL, remote.Config{Endpoint: g.URL, Region: gateway.Region, PathStyle: &path, Anonymous: true}},
		{"tessera", "s3://us-west-2.opendata.source.coop/tessera/tessera at " + g.URL, remote.Config{Endpoint: g.URL}},
		{web.URL + "/tessera/tessera?token=secret", web.URL + "/tessera/tessera", remote.Config{}},
	} {
		for _, test.cfg.Offline = range []bool{false, true} {
			s, err := remote.Open(t.Context(), test.address, test.cfg)
			if err != nil {
				t.Errorf("%s: %v", test.address, err)
				continue
			}
			if s.String() != test.name || !remote.Is(test.address) {
				t.Errorf("%s: %s, want %s", test.address, s, test.name)
			}
			o, err := s.Open(t.Context(), "tile")
			if test.cfg.Offline {
				if !errors.Is(err, source.ErrUnavailable) {
					t.Errorf("%s offline: %v", test.address, err)
				}
			} else if err != nil || o.Info().Size != 2 {
				t.Errorf("%s: %v", test.address, err)
			}
			s.Close()
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	s, err := remote.Open(t.Context(), "tessera", remote.Config{Offline: true})
	if err != nil || s.String() != "s3://us-west-2.opendata.source.coop/tessera/tessera" {
		t.Errorf("tessera: %v, %v", s, err)
	}
}

// Catches an address that is refused without saying what is allowed, that is shown with what is
// secret in it, or that is asked although it cannot be right.
func TestRefused(t *testing.T) {
	path := true
	for _, test := range []struct {
		address, says string
		cfg           remote.Config
	}{
		{"", "a published archive's name (tessera)", remote.Config{}},
		{"tessara", "s3://bucket/prefix, https://host/path", remote.Config{}},
		{"ftp://user:secret@host", "s3://bucket/prefix, https://host/path", remote.Config{}},
		{"s3://user:secret@bucket", "takes no credentials", remote.Config{}},
		{"https://user:secret@", "https://host/path", remote.Config{}},
		{"https://host?secret", "for s3:// addresses", remote.Config{Endpoint: "https://x"}},
		{"https://host?secret", "for s3:// addresses", remote.Config{Region: "x"}},
		{"https://host?secret", "for s3:// addresses", remote.Config{PathStyle: &path}},
		{"https://host?secret", "for s3:// addresses", remote.Config{Anonymous: true}},
	} {
		for _, test.cfg.Offline = range []bool{false, true} {
			s, err := remote.Open(t.Context(), test.address, test.cfg)
			if s != nil || !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, %v; want %q", test.address, s, err, test.says)
			}
		}
	}
	for address, want := range map[string]bool{"tessera": true, "s3://b": true, "x://y": true, "./tessera": false, "/data": false, "data": false} {
		if remote.Is(address) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
}
