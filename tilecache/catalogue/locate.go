package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
	if root, dataset, err := locate(abs); err != nil || root != "" {
		return root, dataset, err
	}
	// The names that tell may be those that a link leads to.
	if target, err := filepath.EvalSymlinks(abs); err == nil && target != abs {
		if root, dataset, err := locate(target); err != nil || root != "" {
			return root, dataset, err
		}
	}
	return "", "", fmt.Errorf("%s: %w: it holds no %s, and is no dataset's directory inside an archive", path, ErrNoArchive, expected)
}

// locate returns "" for a directory that is neither.
func locate(dir string) (root, dataset string, err error) {
	parent, base := filepath.Dir(dir), filepath.Base(dir)
	_, isMirrorTiles := mirrorSuffix(base)
	switch {
	case base == npyDir:
		// The directory of all datasets, unless an archive has that name.
		if has, err := hasTiles(dir); err != nil || has {
			return dir, "", err
		}
		if has, err := hasTiles(parent); err != nil || has {
			return parent, "", err
		}
	case filepath.Base(parent) == npyDir:
		if is, err := isDataset(dir); err != nil || is {
			return filepath.Dir(parent), base, err
		}
	case isMirrorTiles && isVersion(filepath.Base(parent)):
		suffix, _ := mirrorSuffix(base)
		return filepath.Dir(parent), nameOf(filepath.Base(parent), suffix), nil
	case base == tilesDir:
		return parent, flatName, nil
	case isVersion(base):
		entries, err := listDirs(dir)
		if err != nil {
			return "", "", err
		}
		switch datasets := mirrorPlaces(base, entries); len(datasets) {
		case 0:
		case 1:
			return parent, datasets[0].name, nil
		default:
			return "", "", fmt.Errorf("%s: %w of one dataset: it holds %s; name the directory of one, or %s for all", dir, ErrNoArchive, names(datasets), parent)
		}
	}
	has, err := hasTiles(dir)
	if err != nil || !has {
		return "", "", err
	}
	return dir, "", nil
}

// hasTiles says whether a directory is the top of an archive, as far as the names of directories
// tell.
func hasTiles(dir string) (bool, error) {
	places, err := findPlaces(func(name string) ([]source.Entry, error) { return listDirs(filepath.Join(dir, name)) })
	for _, p := range places {
		if !p.own {
			return true, err
		}
		if is, err := isDataset(filepath.Join(dir, p.tiles)); err != nil || is {
			return is, err
		}
	}
	return false, err
}

// isDataset says whether a directory under npy holds a manifest or years.
func isDataset(dir string) (bool, error) {
	switch _, err := os.Stat(filepath.Join(dir, manifestName)); {
	case err == nil:
		return true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	entries, err := listDirs(dir)
	return slices.ContainsFunc(entries, func(e source.Entry) bool {
		_, ok := isYear(e.Name)
		return ok
	}), err
}

// listDirs lists the directories in a directory, links to directories among them.
func listDirs(dir string) ([]source.Entry, error) {
	entries, err := os.ReadDir(dir)
	var dirs []source.Entry
	for _, e := range entries {
		is := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(filepath.Join(dir, e.Name()))
			is = err == nil && info.IsDir()
		}
		if is {
			dirs = append(dirs, source.Entry{Name: e.Name(), Dir: true})
		}
	}
	return dirs, err
}
