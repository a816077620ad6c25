package catalogue

import (
	"regexp"
	"strings"
)

// known are the published datasets: version, variant, and the directory under npy/. The directory
// is the name of the dataset here.
var known = []struct{ version, variant, dir string }{
	{"1.0", "vultr", "v1"}, // predates variants in names
	{"1.1", "cambridge", "v1.1-cam"},
	{"1.1", "dclimate", "v1.1-dclimate"}, // reserved: published in other formats only
	{"2.0", "2B-L~beta1", "v2-2B-L~beta1"},
	{"2.0", "2B-L~beta2", "v2-2B-L~beta2"},
}

// published are the names of the table.
func published() []string {
	var names []string
	for _, k := range known {
		names = append(names, k.dir)
	}
	return names
}

// datasetDir is a version path, and what follows it.
var datasetDir = regexp.MustCompile(`^(v[0-9]+(?:\.[0-9]+)?)(?:-(.+))?$`)

// isVersion says whether a directory is named for a version alone, as a mirror's are.
func isVersion(name string) bool {
	m := datasetDir.FindStringSubmatch(name)
	return m != nil && m[2] == ""
}

// identify says which version and variant a directory under npy/ holds: those of the table, and
// otherwise what the name says. "" stands for any: a directory named for a version alone may hold
// any variant of it, and another name anything.
func identify(dir string) (version, variant string) {
	for _, k := range known {
		if k.dir == dir {
			return k.version, k.variant
		}
	}
	if m := datasetDir.FindStringSubmatch(dir); m != nil {
		return fullVersion(m[1]), m[2]
	}
	return "", ""
}

// nameOf is the name of a dataset of a mirror, from its version path and the suffix of its directory
// ("" for none): the published name, and {version path}-{suffix} for a pair that is not published.
func nameOf(versionPath, suffix string) string {
	if suffix == "" {
		return versionPath
	}
	version := fullVersion(versionPath)
	for _, k := range known {
		if k.version == version && k.variant == suffix {
			return k.dir
		}
	}
	return versionPath + "-" + suffix
}

// fullVersion writes a version as manifests do: "1.0" for "v1", "1", "v1.0" and "1.0".
func fullVersion(s string) string {
	s = strings.TrimPrefix(s, "v")
	if s != "" && !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// versionPath writes a version as directories do: "v1" for "1.0", "v1.1" for "1.1".
func versionPath(version string) string {
	return "v" + strings.TrimSuffix(version, ".0")
}
