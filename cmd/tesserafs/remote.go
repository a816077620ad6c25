package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/tesserafs/tesserafs/tilecache/catalogue"
	"github.com/tesserafs/tesserafs/tilecache/disk"
	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/patient"
	"github.com/tesserafs/tesserafs/tilecache/source/remote"
)

// sourceFlags say how to reach an archive that is elsewhere, and what is kept of it. They have no
// effect on a directory, which the kernel's page cache keeps.
type sourceFlags struct {
	cache         string
	cacheSize     byteSize
	offline       bool
	endpoint      string
	region        string
	addressing    string
	noSignRequest bool
	redirects     bool
	private       bool
	requests      int
}

const defaultCacheSize = 10 << 30

// addSource adds what every command takes that opens an archive.
func (f *sourceFlags) addSource(fl *pflag.FlagSet) {
	*f = sourceFlags{cacheSize: defaultCacheSize, addressing: "auto", requests: 64}
	fl.StringVar(&f.cache, "cache", f.cache, "directory for what is kept of a remote archive (default tesserafs in the user's cache directory)")
	fl.StringVar(&f.endpoint, "endpoint-url", f.endpoint, "S3 server to ask instead of AWS, such as http://127.0.0.1:7070")
	fl.StringVar(&f.region, "region", f.region, "region of the bucket (default what AWS_REGION says, or what the bucket says)")
	fl.StringVar(&f.addressing, "addressing-style", f.addressing, "how S3 requests name the bucket: auto, path or virtual")
	fl.BoolVar(&f.noSignRequest, "no-sign-request", f.noSignRequest, "use no credentials")
	fl.BoolVar(&f.redirects, "follow-redirects", f.redirects, "follow redirects to other hosts, without credentials")
	fl.BoolVar(&f.private, "allow-private", f.private, "let public names and redirects lead to private addresses")
	fl.IntVar(&f.requests, "max-requests", f.requests, "requests to the source at once")
}

// addPages adds what commands take besides that read tiles through the cache.
func (f *sourceFlags) addPages(fl *pflag.FlagSet) {
	fl.Var(&f.cacheSize, "cache-size", "limit of the pages of tiles in the cache; 0 keeps none")
	f.addOffline(fl)
}

func (f *sourceFlags) addOffline(fl *pflag.FlagSet) {
	fl.BoolVar(&f.offline, "offline", f.offline, "read what is in the cache and ask nobody; what is not there fails")
}

// checkSource says what of the flags cannot be meant for a source.
func (f *sourceFlags) checkSource(address string) error {
	switch {
	case f.addressing != "auto" && f.addressing != "path" && f.addressing != "virtual":
		return usageError("--addressing-style is auto, path or virtual, not %q", f.addressing)
	case f.requests < 1 || f.requests > 1024:
		return usageError("--max-requests is from 1 to 1024, not %d", f.requests)
	case !remote.Is(address):
		if f.offline {
			return usageError("--offline is for archives that are elsewhere: %s is a directory", address)
		}
		return nil
	case f.offline && f.cacheSize == 0:
		return usageError("--offline reads from the cache: --cache-size cannot be 0")
	}
	return nil
}

// reach is how a remote archive is asked.
type reach struct {
	flags sourceFlags
	log   *slog.Logger
	dir   string // of the cache
	at    func(prefix string) string
	named remote.Published // where the archive was named instead of addressed

	mu      sync.Mutex // guards patient
	patient map[string]*reached
	root    string // the prefix that the archive is at; set before anything else asks
}

// reached is a source that is asked patiently, with the source itself.
type reached struct {
	*patient.Source
	under remote.Source
}

func (r *reached) Close() error { return errors.Join(r.Source.Close(), r.under.Close()) }

// openRemote finds a remote archive. The catalogue is still to be opened.
func openRemote(ctx context.Context, address string, f sourceFlags, log *slog.Logger) (*reach, *catalogue.Location, error) {
	named, _ := remote.Lookup(address)
	if named.Address != "" {
		address = named.Address
	}
	prefix, at, err := takeApart(address)
	if err != nil {
		return nil, nil, err
	}
	r := &reach{flags: f, log: log, at: at, named: named, patient: map[string]*reached{}}
	// What is kept goes by the name, so it tells the buckets of one name on two servers apart.
	unasked := r.config()
	unasked.Offline = true
	top, err := remote.Open(ctx, at(""), unasked)
	if err != nil {
		return nil, nil, err
	}
	if r.dir, err = f.cacheDir(); err != nil {
		return nil, nil, err
	}
	found, err := catalogue.LocateRemote(ctx, catalogue.Remote{Address: top.String(), Prefix: prefix, At: r.open}, r.catalogue(""))
	if err != nil {
		return nil, nil, err
	}
	r.root = found.Root
	return r, found, nil
}

// config is how the flags say to reach it.
func (r *reach) config() remote.Config {
	cfg := remote.Config{
		Endpoint: r.flags.endpoint, Region: r.flags.region, Anonymous: r.flags.noSignRequest,
		FollowRedirects: r.flags.redirects, AllowPrivate: r.flags.private, Offline: r.flags.offline, Log: r.log,
	}
	if r.named.Endpoint != "" && cfg.Endpoint == "" {
		cfg.Endpoint, cfg.Region, cfg.Anonymous = r.named.Endpoint, r.named.Region, true
	}
	if r.flags.addressing != "auto" {
		path := r.flags.addressing == "path"
		cfg.PathStyle = &path
	}
	return cfg
}

// open reaches what lies under a prefix.
func (r *reach) open(ctx context.Context, prefix string) (source.Source, error) {
	under, err := remote.Open(ctx, r.at(prefix), r.config())
	if err != nil {
		return nil, err
	}
	s := &reached{patient.New(under, patient.Config{InFlight: r.flags.requests, Log: r.log}), under}
	r.mu.Lock()
	r.patient[prefix] = s
	r.mu.Unlock()
	return s, nil
}

// source is the archive's as it is asked; nil until it could be reached.
func (r *reach) source() *reached {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.patient[r.root]
}

// pace is how the archive answers.
func (r *reach) pace() source.Pace {
	if s := r.source(); s != nil {
		return s.Pace()
	}
	return source.Pace{}
}

// catalogue is how the catalogue of the archive is opened.
func (r *reach) catalogue(dataset string) catalogue.Config {
	return catalogue.Config{Dataset: dataset, Dir: filepath.Join(r.dir, "catalogues"), Offline: r.flags.offline, Log: r.log}
}

// openDisk opens the pages on disk; nil where none are to be kept.
func (r *reach) openDisk() (*disk.Cache, error) {
	if r.flags.cacheSize == 0 {
		return nil, nil
	}
	return disk.Open(r.dir, disk.Config{Limit: int64(r.flags.cacheSize), Log: r.log})
}

// cacheDir is where things are kept (XDG base directory specification, "XDG_CACHE_HOME").
func (f *sourceFlags) cacheDir() (string, error) {
	if f.cache != "" {
		return filepath.Abs(f.cache)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no place for a cache (%w): name one with --cache", err)
	}
	return filepath.Join(base, "tesserafs"), nil
}

// takeApart divides an address into the prefix below the bucket or the host, and how a prefix is addressed.
func takeApart(address string) (prefix string, at func(prefix string) string, err error) {
	scheme, rest, _ := strings.Cut(address, "://")
	if strings.EqualFold(scheme, "s3") {
		bucket, prefix, _ := strings.Cut(rest, "/")
		return prefix, func(p string) string { return "s3://" + bucket + "/" + p }, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		// The error of url.Parse shows the address, which may hold a password.
		return "", nil, fmt.Errorf("not an address of an archive: write s3://bucket/prefix, https://host/path or tessera: %w", fs.ErrInvalid)
	}
	return strings.Trim(u.Path, "/"), func(p string) string {
		there := *u
		there.Path, there.RawPath = "/"+p, ""
		return there.String()
	}, nil
}
