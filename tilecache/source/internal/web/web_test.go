package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Catches an address of this machine or network in one of its other spellings, and public ones that
// are refused.
func TestPrivate(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "10.1.2.3": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.0.1": true,
		"169.254.169.254": true, "0.0.0.0": true, "0.1.2.3": true, "100.64.0.1": true, "198.18.0.1": true, "224.0.0.1": true,
		"255.255.255.255": true, "240.0.0.1": true, "192.0.0.1": true,
		"::1": true, "::": true, "fe80::1": true, "fe80::1%eth0": true, "fc00::1": true, "fd12::1": true, "ff02::1": true,
		"::ffff:127.0.0.1": true, "::ffff:10.0.0.1": true, "::127.0.0.1": true, "64:ff9b::7f00:1": true, "64:ff9b::a00:1": true,
		"64:ff9b:1::1": true, "2002:7f00:1::": true, "2001::1": true, "fec0::1": true,
		"1.1.1.1": false, "52.218.0.1": false, "172.32.0.1": false, "100.128.0.1": false, "192.169.0.1": false,
		"2606:4700::1": false, "2a00:1450::1": false, "64:ff9b::101:101": false, "::ffff:1.1.1.1": false, "2001:4860::1": false,
	} {
		if got := private(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: private %v, want %v", address, got, want)
		}
	}
}

// server is one of loopback, its client, and its host's name.
func server(t *testing.T, cfg Config, handler http.HandlerFunc) (client *http.Client, byName string) {
	t.Helper()
	s := httptest.NewServer(handler)
	client = NewClient(cfg)
	t.Cleanup(func() {
		client.CloseIdleConnections()
		s.Close()
	})
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return client, "http://localhost:" + port
}

func get(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return Explain(context.Background(), err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return Explain(context.Background(), err)
	}
	return nil
}

// Catches a name that was public and now is of this machine (DNS rebinding), and one that never was
// anything else and is refused.
func TestRebinding(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }
	client, byName := server(t, Config{}, answer)
	if err := get(client, byName); err != nil {
		t.Errorf("a host that the user named: %v", err)
	}
	for _, allow := range []bool{false, true} {
		client, byName := server(t, Config{AllowPrivate: allow}, answer)
		client.Transport.(*transport).guard.note(strings.TrimPrefix(byName, "http://"), false)
		err := get(client, byName)
		if allow && err != nil || !allow && (err == nil || !strings.Contains(err.Error(), "private address") || errors.As(err, new(*source.Transient))) {
			t.Errorf("a host that was public, private allowed %v: %v", allow, err)
		}
	}
}

// Catches redirects that go where nobody asked, and those within a host that are refused.
func TestRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Authorization", "Cookie", "X-Amz-Security-Token", "Referer"} {
			if r.Header.Get(name) != "" {
				t.Errorf("another host is told %s", name)
			}
		}
	}))
	defer other.Close()
	// The same name and another port is another host, which net/http does not think of credentials.
	otherPort := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	for _, test := range []struct {
		to   string
		cfg  Config
		says string // "" where it is followed
	}{
		{"/there", Config{}, ""},
		{"/from/", Config{}, "it is a directory"},
		{other.URL, Config{}, "another host"},
		{other.URL, Config{AllowPrivate: true}, "another host"},
		{other.URL, Config{FollowRedirects: true}, "private address"},
		{other.URL, Config{FollowRedirects: true, AllowPrivate: true}, ""},
		{otherPort, Config{FollowRedirects: true}, "private address"},
		{otherPort, Config{FollowRedirects: true, AllowPrivate: true}, ""},
		{"http://169.254.169.254/latest", Config{FollowRedirects: true}, "private address 169.254.169.254"},
		{"http://[::ffff:127.0.0.1]:1/", Config{FollowRedirects: true}, "private address"},
		{"file:///etc/passwd", Config{FollowRedirects: true}, "not https"},
		{"http://user:secret@example.com/", Config{}, "another host, example.com:"},
	} {
		client, url := server(t, test.cfg, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/from" {
				w.Header().Set("Location", test.to)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/from?secret", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Authorization", "Cookie", "X-Amz-Security-Token"} {
			req.Header.Set(name, "secret")
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		} else {
			err = Explain(t.Context(), err)
		}
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("to %s with %+v: %v, want %q", test.to, test.cfg, err, test.says)
		}
	}
}

// Catches a redirect that gives up TLS.
func TestRedirectFromTLS(t *testing.T) {
	from := httptest.NewRequest(http.MethodGet, "https://example.com/a", nil)
	for to, refused := range map[string]bool{"https://example.com/b": false, "http://example.com/b": true} {
		req := httptest.NewRequest(http.MethodGet, to, nil)
		err := checkRedirect(Config{FollowRedirects: true}, &guard{}, req, []*http.Request{from})
		if (err != nil) != refused {
			t.Errorf("to %s: %v", to, err)
		}
	}
	// From http to https on the same host is what servers do with those who write http.
	from = httptest.NewRequest(http.MethodGet, "http://example.com/a", nil)
	for to, refused := range map[string]bool{"https://EXAMPLE.com/a": false, "https://example.com:444/a": true, "https://example.org/a": true} {
		req := httptest.NewRequest(http.MethodGet, to, nil)
		if err := checkRedirect(Config{}, &guard{}, req, []*http.Request{from}); (err != nil) != refused {
			t.Errorf("to %s: %v", to, err)
		}
	}
}

// Catches bodies that are read for ever, and those at the bound that are refused.
func TestBounds(t *testing.T) {
	for _, test := range []struct {
		status, length int
		ok             bool
	}{
		{200, maxPlainBytes, true},
		{200, maxPlainBytes + 1, false},
		{206, maxPlainBytes + 1, true},
		{404, maxErrorBytes, true},
		{404, maxErrorBytes + 1, false},
	} {
		client, url := server(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			w.Write(make([]byte, test.length))
		})
		if err := get(client, url); (err == nil) != test.ok {
			t.Errorf("%d bytes of a %d: %v", test.length, test.status, err)
		}
	}
}

// Catches a source that opens or fails by chance where another try would tell, and one that is asked
// for ever.
func TestInsist(t *testing.T) {
	busy, final := &source.Transient{Err: errors.New("busy")}, errors.New("final")
	for _, test := range []struct {
		answers []error
		calls   int
	}{
		{[]error{nil}, 1},
		{[]error{busy, nil}, 2},
		{[]error{busy, final, nil}, 2},
		{[]error{busy, busy, busy, nil}, 3},
		{[]error{&source.Transient{After: time.Minute, Err: final}, nil}, 1},
	} {
		calls := 0
		err := Insist(t.Context(), func() error { calls++; return test.answers[calls-1] })
		if calls != test.calls || err != test.answers[calls-1] {
			t.Errorf("%v: %d calls, %v", test.answers, calls, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Insist(ctx, func() error { cancel(); return busy }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Catches Content-Ranges that are half understood; go on with go test -fuzz.
func FuzzSpan(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 0-9/*", "bytes */10", "bytes 5-4/10", "bytes 0-10/10", "bytes=0-9/10", "bytes 0-9/10/10", "bytes +0-9/10", "bytes -1-9/10", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, size, err := (&Answer{ContentRange: s, Length: -1}).span()
		if err == nil && (first < 0 || first > last || last >= size) {
			t.Errorf("%q: %d-%d/%d", s, first, last, size)
		}
	})
}
