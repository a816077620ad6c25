package s3_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/s3"
)

const someListing = `<ListBucketResult><Contents><Key>x</Key><Size>1</Size></Contents></ListBucketResult>`

// tlsServer answers listings over TLS, with a certificate that is in a file.
func tlsServer(t *testing.T) (url, bundle string) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, someListing) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	bundle = filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return server.URL, bundle
}

// fake is a server for which the handler answers all but what opening asks.
func fake(t *testing.T, handler http.HandlerFunc) *s3.Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead || r.URL.Query().Get("max-keys") == "1" {
			fmt.Fprint(w, someListing)
			return
		}
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return open(t, s3.Config{Bucket: "bucket", Endpoint: server.URL})
}

// Catches listings of a server that means harm: that never end, that take all memory, that name what
// is elsewhere; and lost pages.
func TestHostileListings(t *testing.T) {
	page := func(inner string) string { return "<ListBucketResult>" + inner + "</ListBucketResult>" }
	key := func(name string) string { return "<Contents><Key>" + name + "</Key><Size>1</Size></Contents>" }
	more := func(token string) string {
		return "<IsTruncated>true</IsTruncated><NextContinuationToken>" + token + "</NextContinuationToken>"
	}
	var pages atomic.Int64
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter, r *http.Request)
		want   string // names, or part of the error
	}{
		{"pages", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("continuation-token") == "" {
				fmt.Fprint(w, page(key("d/b")+more("1")))
			} else {
				fmt.Fprint(w, page(key("d/a")+"<CommonPrefixes><Prefix>d/b/</Prefix></CommonPrefixes>"))
			}
		}, "a b/"},
		{"names that are no paths", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, page(key("d/")+key("d/..")+key("d/.")+key("d/a/b")+key("d/c")+"<CommonPrefixes><Prefix>d//</Prefix></CommonPrefixes><CommonPrefixes><Prefix>d/../</Prefix></CommonPrefixes>"))
		}, "c"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page(key("e/a"))) }, "not asked for"},
		{"no slash", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, page("<CommonPrefixes><Prefix>d/a</Prefix></CommonPrefixes>"))
		}, "not understood"},
		{"negative size", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, page("<Contents><Key>d/a</Key><Size>-1</Size></Contents>"))
		}, "not understood"},
		{"the same page", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page(key("d/a")+more("1"))) }, "where to go on"},
		{"no token", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, page(key("d/a")+"<IsTruncated>true</IsTruncated>"))
		}, "where to go on"},
		{"no end", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, page(more(fmt.Sprint(pages.Add(1)))))
		}, "end of the listing"},
		{"huge", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "<ListBucketResult><Contents><Key>")
			for range 8 << 10 {
				if _, err := w.Write(bytes.Repeat([]byte("a"), 1<<10)); err != nil {
					return
				}
			}
		}, "longer than"},
		{"no XML", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<<<") }, "not understood"},
		{"empty", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page("")) }, "no such directory"},
		{"huge error", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			for range 1 << 10 {
				if _, err := w.Write(bytes.Repeat([]byte("secret"), 1<<10)); err != nil {
					return
				}
			}
		}, "403 Forbidden"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := fake(t, test.answer)
			entries, err := s.List(t.Context(), "d", false)
			if err != nil {
				if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("%v, want %q", err, test.want)
				}
				return
			}
			var names []string
			for _, e := range entries {
				if e.Dir {
					e.Name += "/"
				}
				names = append(names, e.Name)
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// Catches a bucket that is gone told as a tile that is not there, and what a server says shown to
// people: it may repeat the request's token.
func TestRefusals(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
	t.Setenv("AWS_SESSION_TOKEN", "secret-token")
	for _, test := range []struct {
		status int
		code   string
		is     error
		says   string
	}{
		{404, "NoSuchKey", fs.ErrNotExist, "404 Not Found (NoSuchKey)"},
		{404, "NoSuchBucket", nil, "404 Not Found (NoSuchBucket)"},
		{403, "AccessDenied", fs.ErrPermission, "403 Forbidden (AccessDenied)"},
		{400, "ExpiredToken", fs.ErrPermission, "(ExpiredToken)"},
		{400, "secret-token 1", nil, "400 Bad Request"},
		{301, "PermanentRedirect", nil, "301 Moved Permanently (PermanentRedirect)"},
	} {
		s := fake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Amz-Security-Token") != "secret-token" {
				t.Error("the request is not signed")
			}
			w.WriteHeader(test.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>you sent %s</Message></Error>", test.code, r.Header.Get("X-Amz-Security-Token"))
		})
		_, err := s.Open(t.Context(), "x")
		if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d %s: %v, want %q", test.status, test.code, err, test.says)
		}
		if errors.Is(err, fs.ErrNotExist) != (test.is == fs.ErrNotExist) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%d %s: %v, want %v", test.status, test.code, err, test.is)
		}
	}
}

// Catches a region that is not found, or found and not used, and credentials that follow a redirect to
// another host.
func TestRegion(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
	for _, configured := range []string{"", "eu-west-9"} {
		t.Setenv("AWS_REGION", configured)
		var heads atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "ap-south-7")
			switch {
			case r.Method == http.MethodHead:
				heads.Add(1)
				w.WriteHeader(http.StatusForbidden)
			case strings.Contains(r.Header.Get("Authorization"), "/ap-south-7/s3/"):
				fmt.Fprint(w, someListing)
			default:
				w.WriteHeader(http.StatusMovedPermanently)
			}
		}))
		s, err := s3.Open(t.Context(), s3.Config{Bucket: "bucket", Endpoint: server.URL})
		if err != nil || heads.Load() != 1 {
			t.Errorf("%q configured: %v, %d questions", configured, err, heads.Load())
		} else {
			s.Close()
		}
		_, err = s3.Open(t.Context(), s3.Config{Bucket: "bucket", Endpoint: server.URL, Region: "eu-west-9"})
		if err == nil || !strings.Contains(err.Error(), "not in region eu-west-9") {
			t.Errorf("a wrong region given: %v", err)
		}
		server.Close()
	}
}

// Catches a checksum of the checksums of parts that is taken for the object's, and one that is none.
func TestChecksumAnswers(t *testing.T) {
	for _, test := range []struct {
		sum, kind string
		ok, fails bool
	}{
		{"rosUhgp5mIg=", "FULL_OBJECT", true, false},
		{"rosUhgp5mIg=", "", true, false},
		{"rosUhgp5mIg=", "COMPOSITE", false, false},
		{"rosUhgp5", "FULL_OBJECT", false, true},
		{"-", "FULL_OBJECT", false, true},
		{"", "", false, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bucket/x" && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
				w.Header().Set("X-Amz-Checksum-Crc64nvme", test.sum)
				w.Header().Set("X-Amz-Checksum-Type", test.kind)
				return
			}
			fmt.Fprint(w, someListing)
		}))
		s := open(t, s3.Config{Bucket: "bucket", Endpoint: server.URL})
		sum, ok, err := s.Checksum(t.Context(), "x")
		if ok != test.ok || ok && sum != 0xae8b14860a799888 || (err != nil) != test.fails {
			t.Errorf("%q %s: %x, %v, %v", test.sum, test.kind, sum, ok, err)
		}
		server.Close()
	}
}

// Catches what the SDK makes of an answer that is streamed: another state's bytes, or another range's, that
// become data; an end of the connection, or a busy server, that is told as anything but a Transient; and
// an error that does not name the object.
func TestFaultyStreams(t *testing.T) {
	data := bytes.Repeat([]byte("tessera"), 20_000)
	size := int64(len(data))
	answer := func(status int, span, etag string, body []byte, length int64) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", etag)
			if span != "" {
				w.Header().Set("Content-Range", span)
			}
			if length >= 0 {
				w.Header().Set("Content-Length", fmt.Sprint(length))
			}
			w.WriteHeader(status)
			http.NewResponseController(w).Flush()
			if w.Write(body); int64(len(body)) < length {
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
		}
	}
	whole := fmt.Sprintf("bytes 0-%d/%d", size-1, size)
	for _, test := range []struct {
		name      string
		answer    http.HandlerFunc
		came      int64
		says      string // "" where the stream is right
		is        error
		transient bool
	}{
		{"right", answer(206, whole, `"one"`, data, size), size, "", nil, false},
		{"right without a length", answer(206, whole, `"one"`, data, -1), size, "", nil, false},
		{"200", answer(200, "", `"one"`, data, size), 0, "does not serve ranges", nil, false},
		{"another range", answer(206, fmt.Sprintf("bytes 1-%d/%d", size-1, size), `"one"`, data[1:], size-1), 0, "sends bytes 1 to", nil, false},
		{"another ETag", answer(206, whole, `"two"`, data, size), 0, "its ETag is another", source.ErrChanged, false},
		{"another size", answer(206, fmt.Sprintf("bytes 0-%d/%d", size-1, size+1), `"one"`, data, size), 0, "now 140001", source.ErrChanged, false},
		{"412", answer(412, "", "", nil, 0), 0, "another state", source.ErrChanged, false},
		{"404", answer(404, "", "", nil, 0), 0, "deleted", source.ErrChanged, false},
		{"503", answer(503, "", "", nil, 0), 0, "503 Service Unavailable", nil, true},
		{"cut short", answer(206, whole, `"one"`, data[:90_000], size), 90_000, "broke off after 90000 of 140000 bytes", nil, true},
		{"longer than a range", answer(206, whole, `"one"`, append(data[:size:size], 1), -1), size, "more bytes than the 140000", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked atomic.Int64
			s := fake(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 {
					test.answer(w, r)
					return
				}
				w.Header().Set("ETag", `"one"`)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			})
			o, err := s.Open(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			var got []byte
			r, err := o.(source.Streamer).Stream(t.Context(), 0, size)
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if int64(len(got)) != test.came || !bytes.Equal(got, data[:len(got)]) {
				t.Errorf("%d bytes came of %d, or others", len(got), test.came)
			}
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "read s3://bucket/x: ") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, want %q", err, test.says)
			}
			if errors.Is(err, source.ErrChanged) != (test.is == source.ErrChanged) || errors.Is(err, fs.ErrNotExist) || errors.As(err, new(*source.Transient)) != test.transient {
				t.Errorf("%v is another kind of error", err)
			}
			if changed := o.Check(t.Context()); errors.Is(changed, source.ErrChanged) != (test.is == source.ErrChanged) {
				t.Errorf("check afterwards: %v", changed)
			}
			if n := asked.Load(); n != 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
}
