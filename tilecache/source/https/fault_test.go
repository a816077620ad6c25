package https_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/https"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
)

// size of the object that faulty servers have, of which each byte is its offset's.
const size = 1000

func content() []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i)
	}
	return p
}

// good answers a range as it should.
func good(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(content()))
}

// opened is an object of a server that answers well until then does.
func opened(t *testing.T, then http.HandlerFunc) source.Object {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 2 { // for the directory, for the prefix
			good(w, r)
			return
		}
		then(w, r)
	}))
	t.Cleanup(server.Close)
	s := open(t, https.Config{URL: server.URL + "/dir?signature=secret", PrefixBytes: 10})
	o, err := s.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// streamAt is ReadAt by a stream, in pieces.
func streamAt(ctx context.Context, o source.Object, p []byte, off int64) (n int, err error) {
	r, err := o.(source.Streamer).Stream(ctx, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for {
		more, err := r.Read(p[n:min(n+7, len(p)):len(p)])
		if n += more; n == len(p) && err == nil {
			_, err = r.Read(make([]byte, 1))
		}
		switch {
		case errors.Is(err, io.EOF) && n == len(p):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// Catches a wrong answer that becomes data, a passing failure that is told as a lasting one or the
// reverse, and bytes beyond the asked range; of reads and of streams.
func TestFaultyReads(t *testing.T) {
	part := func(span, etag string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", span)
			if etag != "" {
				w.Header().Set("ETag", etag)
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body)
		}
	}
	refuse := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			io.WriteString(w, "you sent "+r.URL.RawQuery)
		}
	}
	right := content()[100:120]
	const span = "bytes 100-119/1000"
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		says   string        // "" where the read succeeds
		is     error         // nil: none of the package's
		after  time.Duration // of a *source.Transient; -1: it is none
	}{
		{"right", part(span, `"one"`, right), "", nil, -1},
		{"right without a length", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", span)
			w.Header().Set("ETag", `"one"`)
			w.WriteHeader(http.StatusPartialContent)
			http.NewResponseController(w).Flush()
			w.Write(right)
		}, "", nil, -1},
		{"200", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("ETag", `"one"`); w.Write(content()) }, "does not serve ranges", nil, -1},
		{"200 with a Content-Range", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Range", span)
			w.Write(right)
		}, "does not serve ranges", nil, -1},
		{"an empty 200", refuseEmpty, "it is empty", source.ErrChanged, -1},
		{"another range", part("bytes 101-120/1000", `"one"`, right), "bytes 101 to 120 where 100 to 119", nil, -1},
		{"a shorter range", part("bytes 100-109/1000", `"one"`, right[:10]), "bytes 100 to 109", nil, -1},
		{"a longer range", part("bytes 100-199/1000", `"one"`, content()[100:200]), "bytes 100 to 199", nil, -1},
		{"more than the range", part(span, `"one"`, content()[100:200]), "sends 100 bytes and calls them a range of 20", nil, -1},
		{"more than the range, without a length", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", span)
			w.Header().Set("ETag", `"one"`)
			w.WriteHeader(http.StatusPartialContent)
			http.NewResponseController(w).Flush()
			w.Write(content()[100:200])
		}, "more bytes than the 20", nil, -1},
		{"an unknown size", part("bytes 100-119/*", `"one"`, right), "does not say properly", nil, -1},
		{"no Content-Range", refuse(206), "does not serve ranges", nil, -1},
		{"a mad Content-Range", part("bytes 100-99999999999999999999/99999999999999999999", `"one"`, right), "does not say properly", nil, -1},
		{"another ETag", part(span, `"two"`, right), "its ETag is another", source.ErrChanged, -1},
		{"a weak ETag", part(span, `W/"one"`, right), "does not say of which state", nil, -1},
		{"no ETag", part(span, "", right), "does not say of which state", nil, -1},
		{"another size", part("bytes 100-119/1001", `"one"`, right), "it had 1000 bytes, now 1001", source.ErrChanged, -1},
		{"412", refuse(412), "another state", source.ErrChanged, -1},
		{"416", refuse(416), "now fewer", source.ErrChanged, -1},
		{"404", refuse(404), "deleted", source.ErrChanged, -1},
		{"401", refuse(401), "401 Unauthorized", fs.ErrPermission, -1},
		{"403", refuse(403), "403 Forbidden", fs.ErrPermission, -1},
		{"400", refuse(400), "400 Bad Request", nil, -1},
		{"429", refuse(429, "Retry-After", "7"), "429 Too Many Requests", nil, 7 * time.Second},
		{"503", refuse(503), "503 Service Unavailable", nil, 0},
		{"503 for ages", refuse(503, "Retry-After", "18446744073709551615"), "503", nil, time.Hour},
		{"503 until a past date", refuse(503, "Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT"), "503", nil, 0},
		{"599", refuse(599), "answers 599", nil, 0},
		{"a compressed answer", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			part(span, `"one"`, right)(w, r)
		}, "compresses", nil, -1},
		{"a short body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", span)
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", "20")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(right[:10])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "broke off after 10 of 20 bytes", nil, 0},
		{"no answer", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "broke off", nil, 0},
		{"no HTTP", func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "you sent %s\r\n\r\n", r.URL.RawQuery)
				conn.Close()
			}
		}, "not proper HTTP", nil, 0},
		{"huge headers", func(w http.ResponseWriter, r *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("secret", 1000))
			}
			part(span, `"one"`, right)(w, r)
		}, "not proper HTTP", nil, 0},
		{"a redirect to another host", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.com"+r.URL.String(), http.StatusFound)
		}, "redirects to another host, example.com", nil, -1},
		{"a redirect to nonsense", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://[secret")
			w.WriteHeader(http.StatusFound)
		}, "not proper HTTP", nil, 0},
		{"redirects without an end", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String()+"x", http.StatusFound)
		}, "more than 5 times", nil, -1},
	} {
		run := func(t *testing.T, read func(ctx context.Context, o source.Object, p []byte, off int64) (int, error)) {
			o := opened(t, test.answer)
			room := bytes.Repeat([]byte{0xEE}, 60)
			n, err := read(t.Context(), o, room[20:40:40], 100)
			if !bytes.Equal(room[:20], room[40:]) || room[0] != 0xEE || room[40] != 0xEE {
				t.Error("bytes are written outside the range")
			}
			if n < 0 || n > 20 || !bytes.Equal(room[20:20+n], right[:n]) {
				t.Errorf("%d bytes that are said to be right are not", n)
			}
			if test.name == "a short body" && n != 10 {
				t.Errorf("%d bytes of 10 that came are said to be right", n)
			}
			if test.says == "" {
				if n != 20 || err != nil || !bytes.Equal(room[20:40], right) {
					t.Errorf("%d, %v, %x", n, err, room[20:40])
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%d, %v; want %q", n, err, test.says)
			}
			for _, is := range []error{source.ErrChanged, fs.ErrPermission, fs.ErrNotExist, io.ErrUnexpectedEOF} {
				if errors.Is(err, is) != (is == test.is) {
					t.Errorf("%v: %v is %v", err, is, errors.Is(err, is))
				}
			}
			after := time.Duration(-1)
			if transient := (*source.Transient)(nil); errors.As(err, &transient) {
				after = transient.After
			}
			if after != test.after {
				t.Errorf("%v: transient after %v, want %v", err, after, test.after)
			}
			if text := err.Error(); strings.Contains(text, "secret") || strings.Contains(text, "\n") || !strings.Contains(text, "/dir/x") {
				t.Errorf("a secret, a second line or no object: %s", text)
			}
			if changed := o.Check(t.Context()); errors.Is(changed, source.ErrChanged) != (test.is == source.ErrChanged) {
				t.Errorf("check afterwards: %v", changed)
			}
		}
		t.Run(test.name, func(t *testing.T) {
			run(t, func(ctx context.Context, o source.Object, p []byte, off int64) (int, error) {
				n, err := o.ReadAt(ctx, p, off)
				if err != nil && n == len(p) {
					t.Errorf("all bytes are said to be right, and %v", err)
				}
				return n, err
			})
		})
		t.Run(test.name+", streamed", func(t *testing.T) { run(t, streamAt) })
	}
}

func refuseEmpty(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// Catches an object that opens with what may be another's bytes, or that cannot be pinned.
func TestFaultyOpens(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		says   string // "" where it opens
		is     error
	}{
		{"good", good, "", nil},
		{"weak ETag and a time", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `W/"one"`)
			http.ServeContent(w, r, "", time.Unix(1_700_000_000, 0), bytes.NewReader(content()))
		}, "", nil},
		{"weak ETag alone", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `W/"one"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content()))
		}, "neither a strong ETag nor a Last-Modified", nil},
		{"200", func(w http.ResponseWriter, r *http.Request) { w.Write(content()) }, "does not serve ranges", nil},
		{"the middle", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=10-19")
			good(w, r)
		}, "bytes 10 to 19 where 0 to 9", nil},
		{"too much", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=0-99")
			good(w, r)
		}, "bytes 0 to 99 where 0 to 9", nil},
		{"too little", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=0-4")
			good(w, r)
		}, "bytes 0 to 4 where 0 to 9", nil},
		{"416 and not empty", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.WriteHeader(416)
				return
			}
			good(w, r)
		}, "says that it is not empty", nil},
		{"a directory", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
		}, "it is a directory", fs.ErrNotExist},
		{"410", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(410) }, "410 Gone", fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery != "signature=secret" && test.name != "a directory" {
					t.Errorf("the query is %q", r.URL.RawQuery)
				}
				if r.URL.Path == "/dir/" {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				test.answer(w, r)
			}))
			defer server.Close()
			s := open(t, https.Config{URL: server.URL + "/dir?signature=secret", PrefixBytes: 10})
			o, err := s.Open(t.Context(), "x")
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) || strings.Contains(err.Error(), "secret") {
					t.Errorf("%v; want %q, %v", err, test.says, test.is)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			p := make([]byte, size)
			if _, err := o.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, content()) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// Catches a change, of an object that has no ETag, that the server does not mind: to another time, or
// by a second, which If-Unmodified-Since leaves open.
func TestPinnedByTime(t *testing.T) {
	for _, later := range []time.Duration{-time.Hour, time.Second, time.Hour} {
		var asked atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at := time.Unix(1_700_000_000, 0)
			if asked.Add(1) > 3 { // for the directory, for the prefix, for a read
				at = at.Add(later)
			}
			r.Header.Del("If-Unmodified-Since")
			http.ServeContent(w, r, "", at, bytes.NewReader(content()))
		}))
		o, err := open(t, https.Config{URL: server.URL, PrefixBytes: 10}).Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.ReadAt(t.Context(), make([]byte, 10), 100); err != nil {
			t.Error(err)
		}
		if _, err := o.ReadAt(t.Context(), make([]byte, 10), 100); !errors.Is(err, source.ErrChanged) {
			t.Errorf("%v later: %v", later, err)
		}
		o.Close()
		server.Close()
	}
}

// Catches a source that opens on a server that does not let it, and a password that is not sent, is
// shown, or is sent to another host.
func TestOpen(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || strings.Contains(fmt.Sprint(r.Header, r.URL), "secret") {
			t.Errorf("another host is told %v, %v", r.URL, r.Header)
		}
		good(w, r)
	}))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); strings.HasPrefix(r.URL.Path, "/locked") && password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/broken/"):
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "/elsewhere"):
			http.Redirect(w, r, other.URL+"/x", http.StatusFound)
		case strings.HasSuffix(r.URL.Path, "/moved"):
			http.Redirect(w, r, "/locked/x?signature=secret", http.StatusFound)
		default:
			good(w, r)
		}
	}))
	defer server.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	address := func(path string) string {
		return strings.Replace(server.URL, "http://", "http://user:secret@", 1) + path + "?signature=secret"
	}
	for _, test := range []struct {
		name, url, says string
		is              error
	}{
		{"good", server.URL, "", nil},
		{"password", address("/locked"), "", nil},
		{"no password", server.URL + "/locked", "write https://user:password@host/path", fs.ErrPermission},
		{"wrong password", strings.Replace(address("/locked"), "secret", "secret2", 1), "does not take this user", fs.ErrPermission},
		{"broken", address("/broken"), "502 Bad Gateway", nil},
		{"dead", strings.Replace(dead.URL, "http://", "http://user:secret@", 1), "connection refused", nil},
		{"no host", "https://user:secret@no-such-host.invalid/?secret", "no host no-such-host.invalid", nil},
		{"no TLS", strings.Replace(server.URL, "http:", "https:", 1), "does not speak TLS", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := https.Open(t.Context(), https.Config{URL: test.url})
			if err == nil {
				defer s.Close()
			}
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) ||
				strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %q, %v", err, test.says, test.is)
			}
		})
	}
	for _, test := range []struct {
		name, object, says string
		cfg                https.Config
	}{
		{"within the host", "moved", "", https.Config{}},
		{"elsewhere", "elsewhere", "another host", https.Config{}},
		{"elsewhere, private", "elsewhere", "is the private address 127.0.0.1", https.Config{FollowRedirects: true}},
		{"elsewhere, as allowed", "elsewhere", "", https.Config{FollowRedirects: true, AllowPrivate: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.URL = address("/locked")
			o, err := open(t, test.cfg).Open(t.Context(), test.object)
			if test.says == "" && err == nil {
				_, err = o.ReadAt(t.Context(), make([]byte, 1), size-1)
				o.Close()
			}
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%v; want %q", err, test.says)
			}
		})
	}
}

// Catches a connection for each request, and one that is not used again after a refusal.
func TestConnections(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "none") {
			http.Error(w, strings.Repeat("x", 10_000), http.StatusNotFound)
			return
		}
		good(w, r)
	}))
	var made atomic.Int64
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := open(t, https.Config{URL: server.URL, PrefixBytes: 10})
	for range 10 {
		o, err := s.Open(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.ReadAt(t.Context(), make([]byte, 500), 100); err != nil {
			t.Error(err)
		}
		if _, err := streamAt(t.Context(), o, make([]byte, 500), 100); err != nil {
			t.Error(err)
		}
		o.Close()
		if _, err := s.Open(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d connections for requests one after another", made.Load())
	}
}

// Catches an interrupted read that goes on, or that is told as a failure of the server.
func TestInterrupted(t *testing.T) {
	o := opened(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 100-119/1000")
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "20")
		w.WriteHeader(http.StatusPartialContent)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	for name, read := range map[string]func(ctx context.Context, o source.Object, p []byte, off int64) (int, error){
		"read": func(ctx context.Context, o source.Object, p []byte, off int64) (int, error) {
			return o.ReadAt(ctx, p, off)
		},
		"stream": streamAt,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		_, err := read(ctx, o, make([]byte, 20), 100)
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*source.Transient)) || time.Since(begun) > 5*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(begun))
		}
		cancel()
	}
}

// endless has an object of 1 GiB that it sends as fast as it can, as one of this ETag, and says how much of
// an answer it was rid of when the client left.
func endless(t *testing.T, etag *atomic.Value) (o source.Streamer, sent <-chan int64) {
	t.Helper()
	const size = 1 << 30
	left := make(chan int64, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != fmt.Sprintf("bytes=0-%d", size-1) {
			w.Header().Set("ETag", `"one"`)
			http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(zeros{}, 0, size))
			return
		}
		w.Header().Set("ETag", etag.Load().(string))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size))
		w.WriteHeader(http.StatusPartialContent)
		n, _ := io.Copy(w, io.NewSectionReader(zeros{}, 0, size))
		left <- n
	}))
	t.Cleanup(server.Close)
	opened, err := open(t, https.Config{URL: server.URL, PrefixBytes: 10}).Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	return opened.(source.Streamer), left
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// Catches a stream that reads on when nobody wants more of it, or keeps its connection: after Close, at
// the end of its context, while its reader pauses, and where the answer is refused.
func TestStreamLeft(t *testing.T) {
	var etag atomic.Value
	etag.Store(`"one"`)
	o, sent := endless(t, &etag)
	for name, leave := range map[string]func(cancel func(), r io.Closer){
		"closed":    func(_ func(), r io.Closer) { r.Close() },
		"cancelled": func(cancel func(), _ io.Closer) { cancel() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := o.Stream(ctx, 0, o.Info().Size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
			t.Error(err)
		}
		select {
		case n := <-sent:
			t.Errorf("%s: %d bytes were sent while the reader paused", name, n)
		case <-time.After(100 * time.Millisecond):
		}
		leave(cancel, r)
		select {
		case n := <-sent:
			if n > 256<<20 { // What buffers of the system hold is less.
				t.Errorf("%s: %d bytes were sent to a reader of 1 MiB", name, n)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the connection is kept", name)
		}
		if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil {
			t.Errorf("%s: it reads %d bytes more, %v", name, n, err)
		}
		cancel()
		r.Close()
	}
	if _, err := o.ReadAt(t.Context(), make([]byte, 10), 1000); err != nil {
		t.Errorf("a read afterwards: %v", err)
	}
	etag.Store(`"two"`)
	if _, err := o.Stream(t.Context(), 0, o.Info().Size); !errors.Is(err, source.ErrChanged) {
		t.Errorf("a stream of another state: %v", err)
	}
	select {
	case <-sent:
	case <-time.After(10 * time.Second):
		t.Error("the connection of a refused answer is kept")
	}
}

// Catches a stall that is waited for as long as a whole answer may take, by a patient source that knows
// how quick the server was; a place that is kept; and a connection that is.
func TestStreamStalls(t *testing.T) {
	gone := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "bytes=100-999" {
			good(w, r)
			return
		}
		w.Header().Set("Content-Range", "bytes 100-999/1000")
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "900")
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content()[100:500])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	defer server.Close()
	s := patient.New(open(t, https.Config{URL: server.URL, PrefixBytes: 10}), patient.Config{InFlight: 1})
	defer s.Close()
	o, err := s.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	p := make([]byte, 900)
	if _, err := o.ReadAt(t.Context(), p[:500], 100); err != nil { // which shows the pace
		t.Fatal(err)
	}
	begun := time.Now()
	n, err := streamAt(t.Context(), o, p, 100)
	if took := time.Since(begun); n != 400 || !errors.As(err, new(*source.Transient)) || errors.Is(err, context.Canceled) ||
		!strings.Contains(err.Error(), "read x: it stalls") || took > 5*time.Second {
		t.Errorf("%d bytes, %v after %v", n, err, took)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the connection is kept")
	}
	if _, err := o.ReadAt(t.Context(), p[n:], 100+int64(n)); err != nil || !bytes.Equal(p, content()[100:]) {
		t.Errorf("what was missing: %v, or other bytes", err)
	}
}
