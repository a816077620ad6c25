package remote

import "strings"

// Published is an archive that has a name of its own.
type Published struct {
	Name    string
	Address string // as Open takes it

	// Of its bucket. It is public.
	Endpoint, Region string
}

// published are the archives that may be named instead of addressed. The endpoint is said, so that
// AWS_ENDPOINT_URL, which is about other buckets, does not lead elsewhere.
var published = []Published{
	{
		// All published tiles of TESSERA: the bucket behind https://data.source.coop/tessera/tessera, which can be listed.
		Name:     "tessera",
		Address:  "s3://us-west-2.opendata.source.coop/tessera/tessera",
		Endpoint: "https://s3.us-west-2.amazonaws.com",
		Region:   "us-west-2",
	},
}

// Lookup finds a published archive by its name.
func Lookup(name string) (Published, bool) {
	for _, p := range published {
		if p.Name == name {
			return p, true
		}
	}
	return Published{}, false
}

// names are those of all published archives, for messages.
func names() string {
	all := make([]string, len(published))
	for i, p := range published {
		all[i] = p.Name
	}
	return strings.Join(all, ", ")
}
