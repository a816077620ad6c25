// Package remote opens a source by the address that a user writes: s3://bucket/prefix,
// https://host/path, or the name of a published archive.
package remote

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/https"
	"github.com/tesserafs/tesserafs/tilecache/source/s3"
)

// Config says how to reach a source. The zero Config is right for most.
type Config struct {
	// Of buckets; for an https address they must not be set. See s3.Config.
	Endpoint  string
	Region    string
	PathStyle *bool
	Anonymous bool

	FollowRedirects bool // to other hosts, without credentials
	AllowPrivate    bool // lets redirects and public names lead to private addresses

	// Offline makes no request, now or later: all calls but String fail with source.ErrUnavailable.
	Offline bool

	Log *slog.Logger // nil for none
}

// Source is a source with connections, which Close ends.
type Source interface {
	source.Source
	io.Closer
}

// Is says whether an address is meant for Open, rather than a path of this machine: it has a scheme,
// or is a published archive's name.
func Is(address string) bool {
	_, published := Lookup(address)
	return published || strings.Contains(address, "://")
}

// Open opens a source and sees that it answers. An address or a Config that cannot be right fails
// with fs.ErrInvalid, before any request. Errors are one line that says what to do, and have nothing
// secret of the address in them.
func Open(ctx context.Context, address string, cfg Config) (Source, error) {
	if p, ok := Lookup(address); ok {
		address = p.Address
		if cfg.Endpoint == "" {
			cfg.Endpoint, cfg.Region, cfg.Anonymous = p.Endpoint, p.Region, true
		}
	}
	scheme, rest, _ := strings.Cut(address, "://")
	switch strings.ToLower(scheme) {
	case "s3":
		return openS3(ctx, "s3://"+rest, cfg)
	case "https", "http":
		return openHTTPS(ctx, address, cfg)
	}
	return nil, fmt.Errorf("not an address of an archive: write s3://bucket/prefix, https://host/path or a published archive's name (%s): %w", names(), fs.ErrInvalid)
}

func openS3(ctx context.Context, address string, cfg Config) (Source, error) {
	bucket, prefix, err := s3.Parse(address)
	if err != nil {
		return nil, err
	}
	c := s3.Config{
		Bucket: bucket, Prefix: prefix, Endpoint: cfg.Endpoint, Region: cfg.Region, PathStyle: cfg.PathStyle,
		Anonymous: cfg.Anonymous, FollowRedirects: cfg.FollowRedirects, AllowPrivate: cfg.AllowPrivate, Log: cfg.Log,
	}
	if cfg.Offline {
		name, err := s3.Name(ctx, c)
		if err != nil {
			return nil, err
		}
		return offline(name), nil
	}
	s, err := s3.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openHTTPS(ctx context.Context, address string, cfg Config) (Source, error) {
	if cfg.Endpoint != "" || cfg.Region != "" || cfg.PathStyle != nil || cfg.Anonymous {
		return nil, fmt.Errorf("endpoint, region, path style and anonymous are for s3:// addresses: %w", fs.ErrInvalid)
	}
	c := https.Config{URL: address, FollowRedirects: cfg.FollowRedirects, AllowPrivate: cfg.AllowPrivate}
	if cfg.Offline {
		name, err := https.Name(c)
		if err != nil {
			return nil, err
		}
		return offline(name), nil
	}
	s, err := https.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// offline is a source that is not asked, by its name.
type offline string

func (o offline) String() string { return string(o) }

func (o offline) Open(ctx context.Context, name string) (source.Object, error) {
	return nil, o.fail(ctx, "open", name)
}

func (o offline) List(ctx context.Context, name string, _ bool) ([]source.Entry, error) {
	return nil, o.fail(ctx, "list", name)
}

func (o offline) Close() error { return nil }

func (o offline) fail(ctx context.Context, verb, name string) error {
	switch {
	case !fs.ValidPath(name):
		return fmt.Errorf("%s %q: not a path below the source: %w", verb, name, fs.ErrInvalid)
	case ctx.Err() != nil:
		return fmt.Errorf("%s %s: %w", verb, name, ctx.Err())
	}
	return fmt.Errorf("%s %s/%s: offline: %w", verb, string(o), name, source.ErrUnavailable)
}
