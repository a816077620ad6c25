package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

const connectTimeout = 10 * time.Second

// reserved are the addresses that no public server has, besides those that netip.Addr knows by
// name (RFC 6890 and IANA's special-purpose registries).
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared address space, RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),          // IPv4-compatible
	netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64 of a network's own, RFC 8215
	netip.MustParsePrefix("2001::/32"),      // Teredo
	netip.MustParsePrefix("2002::/16"),      // 6to4
	netip.MustParsePrefix("fec0::/10"),      // site-local
}

// nat64 has a public IPv4 address in its last four bytes where the network is IPv6 only (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// private says whether an address is of this machine, of this network or of no public server.
func private(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return true
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// guard decides which addresses may be connected to. Public ones may. Private ones may where the
// user named the host and it was private when it was first seen (an intranet, a test on this
// machine), or is a proxy from the environment. They may not where a redirect leads there, nor where
// a name that was public has come to mean one, which is looked at when the connection is made: an
// earlier look could be told another address.
type guard struct {
	allowPrivate bool
	proxy        func(*http.Request) (*url.URL, error)

	mu   sync.Mutex      // guards near
	near map[string]bool // "host:port" of hosts seen: whether it may be private
}

// refusal is a request that was not made because of where it would have gone.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

func refusePrivate(host string, a netip.Addr) error {
	return &refusal{fmt.Sprintf("%s is the private address %s: refused, unless private addresses are allowed", host, a)}
}

// meet is called with each request that the user asked for, which a redirect's is not.
func (g *guard) meet(ctx context.Context, req *http.Request) error {
	if g.allowPrivate {
		return nil
	}
	addr := canonicalAddr(req.URL)
	g.mu.Lock()
	_, known := g.near[addr]
	g.mu.Unlock()
	if known {
		return nil
	}
	is := false
	if proxied, _ := g.meetProxy(req); !proxied {
		addrs, err := lookup(ctx, req.URL.Hostname())
		if err != nil {
			return err
		}
		for _, a := range addrs {
			is = is || private(a)
		}
	}
	g.note(addr, is)
	return nil
}

// meetProxy trusts the proxy of a request, if it has one.
func (g *guard) meetProxy(req *http.Request) (proxied bool, err error) {
	u, err := g.proxy(req)
	if u == nil || err != nil {
		return false, err
	}
	g.note(canonicalAddr(u), true)
	return true, nil
}

// note keeps the first word on a host.
func (g *guard) note(addr string, near bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.near[addr]; !known {
		g.near[addr] = near
	}
}

func (g *guard) mayBePrivate(addr string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allowPrivate || g.near[strings.ToLower(addr)]
}

func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTimeout}
	if !g.mayBePrivate(addr) {
		d.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return &refusal{"the address is none that is understood: refused"}
			}
			if private(a.Addr()) {
				return refusePrivate(addr, a.Addr())
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, addr)
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// canonicalAddr is the host and port of a URL, as the transport dials them.
func canonicalAddr(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
