package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/internal/web"
)

// Limits of a listing. A flat archive of the planet has 1.6 million names in a directory.
const (
	maxNames     = 4 << 20
	maxNameBytes = 256 << 20
	maxPages     = 64 << 10
	maxBarePages = 64 // that bring nothing and promise more, as where much was deleted
)

// List lists with a delimiter, in pages of up to 1,000 names. A directory is what a key goes through,
// so that it is there as long as something is in it; where there is an object of the same name, the
// directory is listed. Infos come with the listing whether they are asked for or not. Keys that are
// no path below the directory (a//b, a/../b, a/ itself) name no object here and are left out.
func (s *Source) List(ctx context.Context, name string, withInfo bool) ([]source.Entry, error) {
	if err := web.CheckName(ctx, "list", name); err != nil {
		return nil, err
	}
	entries, err := s.list(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", s.path(name), err)
	}
	if !withInfo {
		for i := range entries {
			entries[i].Info = source.Info{}
		}
	}
	return entries, nil
}

func (s *Source) list(ctx context.Context, name string) ([]source.Entry, error) {
	l := listing{under: s.key(name) + "/"}
	if l.under == "./" {
		l.under = ""
	}
	in := &s3.ListObjectsV2Input{Bucket: &s.cfg.Bucket, Prefix: &l.under, Delimiter: aws.String("/")}
	bare := 0
	for range maxPages {
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, explain(ctx, err)
		}
		if err := l.add(out); err != nil {
			return nil, err
		}
		next := aws.ToString(out.NextContinuationToken)
		if !aws.ToBool(out.IsTruncated) {
			if name != "." && !l.found {
				return nil, fmt.Errorf("there is no such directory: %w", fs.ErrNotExist)
			}
			return l.sorted(), nil
		}
		if next == "" || next == aws.ToString(in.ContinuationToken) {
			return nil, errors.New("the server cuts the listing short and does not say where to go on")
		}
		if len(out.CommonPrefixes)+len(out.Contents) == 0 {
			bare++
		}
		if bare > maxBarePages {
			break
		}
		in.ContinuationToken = &next
	}
	return nil, errors.New("the server does not come to the end of the listing")
}

// listing collects the pages of a directory's.
type listing struct {
	under   string // "" or ending in a slash
	found   bool   // something is under it
	bytes   int
	entries []source.Entry
}

func (l *listing) add(page *s3.ListObjectsV2Output) error {
	for i := range page.CommonPrefixes {
		inner, slash := strings.CutSuffix(aws.ToString(page.CommonPrefixes[i].Prefix), "/")
		if !slash {
			return errUnderstood
		}
		if err := l.addName(inner, true, source.Info{}); err != nil {
			return err
		}
	}
	for i := range page.Contents {
		o := &page.Contents[i]
		size := aws.ToInt64(o.Size)
		if size < 0 {
			return errUnderstood
		}
		// Answers about the object tell its time to the second.
		info := source.Info{Size: size, ModTime: aws.ToTime(o.LastModified).Truncate(time.Second), ETag: web.StrongETag(aws.ToString(o.ETag))}
		if err := l.addName(aws.ToString(o.Key), false, info); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) addName(key string, dir bool, info source.Info) error {
	name, under := strings.CutPrefix(key, l.under)
	if !under {
		return errors.New("the server lists what was not asked for")
	}
	l.found = true
	if !fs.ValidPath(name) || name == "." || path.Base(name) != name {
		return nil
	}
	if l.bytes += len(name); l.bytes > maxNameBytes || len(l.entries) == maxNames {
		return fmt.Errorf("the server lists more than %d names or %d MiB of them", maxNames, maxNameBytes>>20)
	}
	l.entries = append(l.entries, source.Entry{Name: name, Dir: dir, Info: info})
	return nil
}

// sorted is the entries by name alone, which the keys are not ("a-b" is before "a/"), each once.
func (l *listing) sorted() []source.Entry {
	slices.SortFunc(l.entries, func(a, b source.Entry) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 || a.Dir == b.Dir {
			return c
		}
		if a.Dir {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(l.entries, func(a, b source.Entry) bool { return a.Name == b.Name })
}
