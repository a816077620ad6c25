package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Locate finds the archive that a path of this machine names: the archive's top directory, or a
// dataset's inside it (npy/v1; v1 or v1/global_0.1_degree_representation of a mirror;
// global_0.1_degree_representation). It returns the top directory, and the dataset that is meant, ""
// for all. What is not there fails with fs.ErrNotExist, what is no archive with [ErrNoArchive].
func Locate(path string) (root, dataset string, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", "", err
	}
	if !info.IsDir() {
		return "", "", fmt.Errorf("%s: %w: it is a file; name the archive's top directory, or a dataset's inside it", path, ErrNoArchive)
	}
	if root, dataset, err := locateLocal(abs); err != nil || root != "" {
		return root, dataset, err
	}
	// The names that tell may be those that a link leads to.
	if target, err := filepath.EvalSymlinks(abs); err == nil && target != abs {
		if root, dataset, err := locateLocal(target); err != nil || root != "" {
			return root, dataset, err
		}
	}
	return "", "", fmt.Errorf("%s: %w: it holds no %s, and is no dataset's directory inside an archive", path, ErrNoArchive, expected)
}

// locateLocal returns "" for a directory that is neither.
func locateLocal(abs string) (root, dataset string, err error) {
	dir := strings.TrimPrefix(abs, "/")
	if dir == "" {
		dir = "."
	}
	in := thisMachine{}
	root, dataset, err = locate(dir, in)
	if err == nil && root == "" {
		var is bool
		if is, err = hasTiles(dir, in); is {
			root = dir
		}
	}
	if err != nil || root == "" {
		return "", "", err
	}
	return in.name(root), dataset, nil
}

// surroundings is where an archive is looked for. Paths are slash-separated, valid by io/fs's rules, and
// below something of which no more is known than that it may lie above an archive.
type surroundings interface {
	// list says which directories there are in one; errors.ErrUnsupported where that cannot be found out.
	list(dir string) ([]source.Entry, error)
	has(name string) (bool, error) // an object
	name(dir string) string        // for people
}

// locate finds the archive and the dataset that a directory is of, as far as the names of the directory and
// of those above it tell; it returns "" where they do not.
func locate(dir string, in surroundings) (root, dataset string, err error) {
	parent, base := path.Dir(dir), path.Base(dir)
	_, isMirrorTiles := mirrorSuffix(base)
	switch {
	case base == npyDir:
		// The directory of all datasets, unless an archive has that name.
		if has, err := hasTiles(dir, in); err != nil || has {
			return dir, "", err
		}
		if has, err := hasTiles(parent, in); err != nil || has {
			return parent, "", err
		}
	case path.Base(parent) == npyDir:
		if is, err := isDataset(dir, in); err != nil || is {
			return path.Dir(parent), base, err
		}
	case isMirrorTiles && isVersion(path.Base(parent)):
		suffix, _ := mirrorSuffix(base)
		return path.Dir(parent), nameOf(path.Base(parent), suffix), nil
	case base == tilesDir:
		return parent, flatName, nil
	case isVersion(base):
		switch datasets, err := mirrorDatasets(dir, in); {
		case err != nil:
			return "", "", err
		case len(datasets) == 1:
			return parent, datasets[0].name, nil
		case len(datasets) > 1:
			return "", "", fmt.Errorf("%s: %w of one dataset: it holds %s; name the directory of one, or %s for all",
				in.name(dir), ErrNoArchive, names(datasets), in.name(parent))
		}
	}
	return "", "", nil
}

// mirrorDatasets are the datasets in a directory of a mirror that is named for a version. Where it cannot
// be listed, but the mirror's manifest lies above it, they are the published ones that it may hold.
func mirrorDatasets(dir string, in surroundings) ([]place, error) {
	entries, err := in.list(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		var has bool
		if has, err = in.has(path.Join(path.Dir(dir), manifestName)); has {
			for _, k := range known {
				if versionPath(k.version) == path.Base(dir) {
					name := tilesDir
					if k.dir != path.Base(dir) {
						name += "." + k.variant
					}
					entries = append(entries, source.Entry{Name: name, Dir: true})
				}
			}
		}
	}
	return mirrorPlaces(path.Base(dir), entries), err
}

// hasTiles says whether a directory is the top of an archive, as far as the names of directories
// tell, or where they cannot be listed, the published datasets' manifests.
func hasTiles(dir string, in surroundings) (bool, error) {
	places, err := findPlaces(func(name string) ([]source.Entry, error) { return in.list(path.Join(dir, name)) })
	if errors.Is(err, errors.ErrUnsupported) {
		manifests := []string{manifestName}
		for _, name := range published() {
			manifests = append(manifests, currentPlace(name, nil).manifest)
		}
		for _, name := range manifests {
			if has, err := in.has(path.Join(dir, name)); err != nil || has {
				return has, err
			}
		}
		return false, nil
	}
	for _, p := range places {
		if !p.own {
			return true, err
		}
		if is, err := isDataset(path.Join(dir, p.tiles), in); err != nil || is {
			return is, err
		}
	}
	return false, err
}

// isDataset says whether a directory under npy holds a manifest or years.
func isDataset(dir string, in surroundings) (bool, error) {
	if has, err := in.has(path.Join(dir, manifestName)); err != nil || has {
		return has, err
	}
	entries, err := in.list(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return false, nil
	}
	return slices.ContainsFunc(entries, func(e source.Entry) bool {
		_, ok := isYear(e.Name)
		return ok
	}), err
}

// thisMachine is the file system of this machine.
type thisMachine struct{}

func (thisMachine) name(dir string) string { return filepath.Join("/", dir) }

func (m thisMachine) has(name string) (bool, error) {
	_, err := os.Stat(m.name(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// list counts links to directories among them.
func (m thisMachine) list(dir string) ([]source.Entry, error) {
	entries, err := os.ReadDir(m.name(dir))
	var dirs []source.Entry
	for _, e := range entries {
		is := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(filepath.Join(m.name(dir), e.Name()))
			is = err == nil && info.IsDir()
		}
		if is {
			dirs = append(dirs, source.Entry{Name: e.Name(), Dir: true})
		}
	}
	return dirs, err
}
