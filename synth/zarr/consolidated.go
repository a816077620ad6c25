package zarr

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Consolidated is inline consolidated metadata: the documents of all nodes below a group, under
// their paths relative to it. It is zarr-python's convention, not yet a clause of the
// specification (https://github.com/zarr-developers/zarr-specs/pull/309); a reader that finds it
// trusts it alone, and opens the whole tree with one read.
//
//	{"kind": "inline", "must_understand": false, "metadata": {"utm30": {…}, "utm30/scales": {…}}}
type Consolidated struct {
	nodes map[string]Node
}

// Consolidate returns the group with the consolidated metadata that zarr-python's
// consolidate_metadata would give it in a store of these nodes. Paths are relative to the group:
// "scales", "utm30/scales". Each group on the way to a node must be there itself. What a child
// group has of its own is left out, as zarr-python does: it carries the empty object.
func Consolidate(root Group, nodes map[string]Node) (Group, error) {
	for path, node := range nodes {
		if err := checkPath(path, nodes); err != nil {
			return Group{}, err
		}
		switch node.(type) {
		case Array, Group:
		default:
			return Group{}, fmt.Errorf("node %q is a %T", path, node)
		}
	}
	root.Consolidated = &Consolidated{maps.Clone(nodes)}
	return root, nil
}

// checkPath tells whether a node may lie there. Names are held to what the specification
// recommends ("Node names": A-Z a-z 0-9 - _ .), so that they mean the same in every store.
func checkPath(path string, nodes map[string]Node) error {
	for name := range strings.SplitSeq(path, "/") {
		if strings.Trim(name, ".") == "" || strings.HasPrefix(name, "__") {
			return fmt.Errorf("path %q: %q is no name for a node", path, name)
		}
		for _, c := range []byte(name) {
			if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
				return fmt.Errorf("path %q: use letters, digits, - _ and . in names", path)
			}
		}
	}
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		if _, ok := nodes[path[:i]].(Group); !ok {
			return fmt.Errorf("path %q: there is no group %q", path, path[:i])
		}
	}
	return nil
}

func (c *Consolidated) document() (Attributes, error) {
	// zarr-python sorts by depth, then without regard to case.
	paths := slices.SortedFunc(maps.Keys(c.nodes), func(a, b string) int {
		return cmp.Or(
			cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")),
			cmp.Compare(strings.ToLower(a), strings.ToLower(b)),
			cmp.Compare(a, b),
		)
	})
	metadata := make(Attributes, len(paths))
	for i, path := range paths {
		node := c.nodes[path]
		if g, ok := node.(Group); ok {
			g.Consolidated = &Consolidated{}
			node = g
		}
		d, err := node.document()
		if err != nil {
			return nil, fmt.Errorf("node %q: %w", path, err)
		}
		metadata[i] = Attribute{path, d}
	}
	return Attributes{{"kind", "inline"}, {"must_understand", false}, {"metadata", metadata}}, nil
}
