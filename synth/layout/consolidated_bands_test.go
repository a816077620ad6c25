package layout

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tesserafs/tesserafs/grid"
)

// documentIn returns the parsed document of a zone of a store of version 2 in an order.
func documentIn(t *testing.T, order ChunkOrder) map[string]any {
	c := &Consolidated{model: "2.0", years: []int{2017, 2024}, arrays: pixelArrays("2.0", 64, 256), order: order}
	zone, err := c.describeZone(grid.Grid{Zone: 30, Easting: 600000, Northing: 5800000, Height: 8192, Width: 4096})
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Consolidated struct{ Metadata map[string]any } `json:"consolidated_metadata"`
	}
	if err := json.Unmarshal(zone[""], &document); err != nil {
		t.Fatal(err)
	}
	return document.Consolidated.Metadata
}

// innerCodecs takes the codecs of an array's inner chunks out of its document; nil for other arrays.
func innerCodecs(t *testing.T, document any) string {
	sharding := document.(map[string]any)["codecs"].([]any)[0].(map[string]any)
	configuration, ok := sharding["configuration"].(map[string]any)
	if !ok || sharding["name"] != "sharding_indexed" {
		return ""
	}
	codecs, err := json.Marshal(configuration["codecs"])
	if err != nil {
		t.Fatal(err)
	}
	delete(configuration, "codecs")
	return string(codecs)
}

// Catches: orders that describe two arrays, or other codecs than the bytes have; scales that an order
// changes.
func TestOrdersDescribeOneArray(t *testing.T) {
	pixel, band := documentIn(t, PixelOrder), documentIn(t, BandOrder)
	seen := 0
	for name := range pixel {
		before, after := innerCodecs(t, pixel[name]), innerCodecs(t, band[name])
		want := before
		if strings.HasPrefix(name, "embeddings") {
			seen++
			want = `[{"name":"bytes"},{"configuration":{"checksum":false,"level":0},"name":"zstd"}]`
		}
		if after != want {
			t.Errorf("%s: codecs are %s, want %s", name, after, want)
		}
		if !reflect.DeepEqual(pixel[name], band[name]) {
			t.Errorf("%s: band order has another document than pixel order:\n%v\n%v", name, band[name], pixel[name])
		}
	}
	if seen != 3 || len(band) != len(pixel) {
		t.Errorf("%d arrays of embeddings, %d nodes for %d", seen, len(band), len(pixel))
	}
}

// Catches: an order that is taken with inner chunks it cannot be made of, prefix arrays' among them.
func TestCheckOrder(t *testing.T) {
	for side, fits := range map[int]bool{16: true, 64: true, 256: true, 512: false, 4096: false} {
		if err := BandOrder.Check(side); (err == nil) != fits {
			t.Errorf("band order at %d px: %v", side, err)
		}
		if err := PixelOrder.Check(side); err != nil {
			t.Errorf("pixel order at %d px: %v", side, err)
		}
		for _, a := range pixelArrays("2.0", side, 16) {
			if size := a.inner * a.inner * a.bands; size > side*side*grid.Bands {
				t.Errorf("%s at %d px: %d bytes an inner chunk", a.name, side, size)
			}
		}
	}
}
