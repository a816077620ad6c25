package catalogue

import (
	"slices"
	"strings"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

// Names of the three layouts.
const (
	npyDir       = "npy"
	landmasksDir = "landmasks"
	tilesDir     = "global_0.1_degree_representation"
	masksDir     = "global_0.1_degree_tiff_all"
	manifestName = "manifest.parquet"
	registryName = "landmasks.parquet"
	flatName     = "v1" // of a dataset whose directory names none
)

// place is where a dataset lies. Whether there is anything under the names is for opening to find
// out.
type place struct {
	name, version, variant string // version and variant "" for any

	tiles    string // directory of the years
	masks    string // directory of the landmasks
	manifest string
	registry string // of the landmasks
	own      bool   // the manifest is of this dataset alone
}

// findPlaces looks where datasets may lie, in the order in which a dataset that lies in several
// layouts is taken. list lists a directory below the top, which is ".".
func findPlaces(list func(dir string) ([]source.Entry, error)) ([]place, error) {
	root, err := list(".")
	if err != nil {
		return nil, err
	}
	var places []place
	if hasDir(root, npyDir) {
		if places, err = findCurrent(list, hasDir(root, landmasksDir)); err != nil {
			return nil, err
		}
	}
	for _, e := range root {
		if e.Dir && isVersion(e.Name) {
			entries, err := list(e.Name)
			if err != nil {
				return nil, err
			}
			places = append(places, mirrorPlaces(e.Name, entries)...)
		}
	}
	if hasDir(root, tilesDir) {
		places = append(places, flatPlace())
	}
	return places, nil
}

// findCurrent: npy/<dataset> and landmasks/<version>.
func findCurrent(list func(dir string) ([]source.Entry, error), withMasks bool) ([]place, error) {
	datasets, err := list(npyDir)
	if err != nil {
		return nil, err
	}
	var masks []source.Entry
	if withMasks {
		if masks, err = list(landmasksDir); err != nil {
			return nil, err
		}
	}
	var places []place
	for _, e := range datasets {
		if e.Dir && !strings.HasPrefix(e.Name, ".") {
			places = append(places, currentPlace(e.Name, masks))
		}
	}
	return places, nil
}

func currentPlace(name string, masks []source.Entry) place {
	version, variant := identify(name)
	p := place{name: name, version: version, variant: variant, tiles: npyDir + "/" + name, own: true}
	p.manifest = p.tiles + "/" + manifestName
	// Landmasks are published by version. Those of version 2 are a copy of 1.1's, which a mirror
	// may do without.
	dir := name
	if version != "" {
		dir = versionPath(version)
	}
	if version == "2.0" && !hasDir(masks, dir) && hasDir(masks, "v1.1") {
		dir = "v1.1"
	}
	p.masks = landmasksDir + "/" + dir
	p.registry = p.masks + "/" + registryName
	return p
}

// mirrorPlaces: <version>/global_0.1_degree_representation[.<variant>], with the landmasks beside it
// and the registries at the top.
func mirrorPlaces(dir string, entries []source.Entry) []place {
	var places []place
	for _, e := range entries {
		suffix, ok := mirrorSuffix(e.Name)
		if !e.Dir || !ok {
			continue
		}
		p := place{name: nameOf(dir, suffix), tiles: dir + "/" + e.Name, masks: dir + "/" + masksDir,
			manifest: manifestName, registry: registryName}
		p.version, p.variant = identify(p.name)
		places = append(places, p)
	}
	return places
}

// mirrorSuffix is the variant in the name of a mirror's directory of tiles, "" for none.
func mirrorSuffix(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, tilesDir)
	if !ok || rest == "" {
		return "", ok
	}
	suffix, ok := strings.CutPrefix(rest, ".")
	return suffix, ok && suffix != ""
}

// flatPlace: global_0.1_degree_representation, whatever was downloaded into it.
func flatPlace() place {
	p := place{name: flatName, tiles: tilesDir, masks: masksDir, manifest: manifestName, registry: registryName}
	p.version, p.variant = identify(p.name)
	return p
}

func hasDir(entries []source.Entry, name string) bool {
	return slices.ContainsFunc(entries, func(e source.Entry) bool { return e.Dir && e.Name == name })
}

// isYear says whether a directory is named for a year, 0001 to 9999.
func isYear(name string) (year int, ok bool) {
	if len(name) != 4 {
		return 0, false
	}
	for _, c := range []byte(name) {
		if c < '0' || c > '9' {
			return 0, false
		}
		year = year*10 + int(c-'0')
	}
	return year, year > 0
}

// expected names what an archive is known by, for messages.
const expected = npyDir + "/<dataset>/{" + manifestName + ",<year>/grid_*}, <version>/" + tilesDir + "[.<variant>]/<year>/grid_* or " +
	tilesDir + "/<year>/grid_*"
