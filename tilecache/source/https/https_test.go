package https_test

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/https"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a source that is closed with the test.
func open(t *testing.T, cfg https.Config) *https.Source {
	t.Helper()
	s, err := https.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Catches a source that does not keep the contract on a real server, with each read a request and
// with what opening brings along.
func TestNginx(t *testing.T) {
	root := t.TempDir()
	server := gateway.StartNginx(t, root)
	for name, prefix := range map[string]int{"requests": 2, "prefix": 0} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Test(t, func(t *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
				dir, err := os.MkdirTemp(root, "a b%c+")
				if err != nil {
					t.Fatal(err)
				}
				url := server.URL + "/" + strings.ReplaceAll(filepath.Base(dir), "a b%c", "a%20b%25c") + "/?signature=x"
				return open(t, https.Config{URL: url, PrefixBytes: prefix}), sourcetest.NewFiles(t, dir, objects)
			})
		})
	}
}

// Catches the same on a server that sends empty files whole and knows Last-Modified only, over TLS
// and HTTP/2.
func TestGoServer(t *testing.T) {
	root := t.TempDir()
	server := httptest.NewUnstartedServer(http.FileServer(http.Dir(root)))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	trust(t, server)
	sourcetest.Test(t, func(t *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		return open(t, https.Config{URL: server.URL + "/" + filepath.Base(dir), PrefixBytes: 2}), sourcetest.NewFiles(t, dir, objects)
	})
}

// Catches addresses that are taken for others, and secrets in the name of a source.
func TestName(t *testing.T) {
	for address, want := range map[string]string{
		"https://host":                                 "https://host",
		"HTTPS://host:444/a/b/":                        "https://host:444/a/b",
		"http://host/a%20b%2Fc//":                      "http://host/a%20b%2Fc",
		"https://user:secret@host/a?X-Sig=secret&y=%s": "https://host/a",
		"https://host/a#secret":                        "",
		"https://":                                     "",
		"https:host":                                   "",
		"https://user:secret@":                         "",
		"https://secret host/":                         "",
		"https://host/%zz-secret":                      "",
		"ftp://host/a":                                 "",
		"/a/b":                                         "",
	} {
		name, err := https.Name(https.Config{URL: address})
		if err == nil && name != want || err != nil && (want != "" || !errors.Is(err, fs.ErrInvalid)) {
			t.Errorf("%s: %q, %v; want %q", address, name, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}

// trust makes a test server's certificate one that is trusted. The system's are read once, so this
// is for one server of the package.
func trust(t *testing.T, server *httptest.Server) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
}
