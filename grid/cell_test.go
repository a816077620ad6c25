package grid

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestCellNames would catch a name that is not Python's f"grid_{lon:.2f}_{lat:.2f}", above all the
// sign of -0.05, whose whole part is 0.
func TestCellNames(t *testing.T) {
	for _, c := range []struct {
		cell     Cell
		name     string
		lon, lat float64
		zone     int
		south    bool
	}{
		{Cell{-5, 5215}, "grid_-0.05_52.15", -0.05, 52.15, 30, false},
		{Cell{5, -5}, "grid_0.05_-0.05", 0.05, -0.05, 31, true},
		{Cell{-17995, -8995}, "grid_-179.95_-89.95", -179.95, -89.95, 1, true},
		{Cell{17995, 8995}, "grid_179.95_89.95", 179.95, 89.95, 60, false},
		{Cell{-3605, 8355}, "grid_-36.05_83.55", -36.05, 83.55, 24, false},
		{Cell{-3595, 8355}, "grid_-35.95_83.55", -35.95, 83.55, 25, false},
		{Cell{505, 6005}, "grid_5.05_60.05", 5.05, 60.05, 31, false}, // 32V by the Norway exception
		{Cell{10645, 3865}, "grid_106.45_38.65", 106.45, 38.65, 48, false},
	} {
		if got := c.cell.String(); got != c.name {
			t.Errorf("%d, %d: name %q, want %q", c.cell.Lon, c.cell.Lat, got, c.name)
		}
		if lon, lat := c.cell.LonLat(); lon != c.lon || lat != c.lat {
			t.Errorf("%v: LonLat %v, %v", c.cell, lon, lat)
		}
		if c.cell.Zone() != c.zone || c.cell.South() != c.south {
			t.Errorf("%v: zone %d south %v, want %d %v", c.cell, c.cell.Zone(), c.cell.South(), c.zone, c.south)
		}
		if got, err := ParseCell(c.name); err != nil || got != c.cell {
			t.Errorf("ParseCell(%q): %v, %v", c.name, got, err)
		}
		if got, err := CellAt(c.lon, c.lat); err != nil || got != c.cell {
			t.Errorf("CellAt(%v, %v): %v, %v", c.lon, c.lat, got, err)
		}
	}
}

// TestEveryCentre would catch a longitude or latitude that does not come back from its name or its
// degrees, or lies outside the range of its zone.
func TestEveryCentre(t *testing.T) {
	for lon := -17995; lon <= 17995; lon += 10 {
		c, err := NewCell(lon, lon/20*10-5) // latitudes go along
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseCell(c.String()); err != nil || got != c {
			t.Errorf("ParseCell(%v): %v, %v", c, got, err)
		}
		if got, err := CellAt(c.LonLat()); err != nil || got != c {
			t.Errorf("CellAt(%v): %v, %v", c, got, err)
		}
		// As a running sum has it, which is off by some 1e-12.
		if got, err := CellAt(float64(c.Lon)*0.01, float64(c.Lat)*0.01); err != nil || got != c {
			t.Errorf("CellAt beside %v: %v, %v", c, got, err)
		}
		if lo, hi := ZoneLons(c.Zone()); c.Lon < lo || c.Lon >= hi {
			t.Errorf("%v lies outside zone %d, %d to %d", c, c.Zone(), lo, hi)
		}
		degrees, _ := c.LonLat()
		if want := int(math.Floor((degrees+180)/6)) + 1; c.Zone() != want {
			t.Errorf("%v: zone %d, want %d", c, c.Zone(), want)
		}
	}
}

// TestZoneLons would catch gaps and overlaps between zones.
func TestZoneLons(t *testing.T) {
	next := int16(-18000)
	for zone := 1; zone <= Zones; zone++ {
		lo, hi := ZoneLons(zone)
		if lo != next || hi != lo+600 {
			t.Errorf("zone %d: %d to %d, want %d to %d", zone, lo, hi, next, next+600)
		}
		next = hi
	}
	if next != 18000 {
		t.Errorf("zones end at %d", next)
	}
	for _, zone := range []int{math.MinInt, -1, 0, 61, math.MaxInt} {
		if lo, hi := ZoneLons(zone); lo != hi {
			t.Errorf("zone %d: %d to %d, want none", zone, lo, hi)
		}
	}
}

// TestNoCell would catch bad input that is taken for a cell, and messages that do not say what is
// wrong with it.
func TestNoCell(t *testing.T) {
	type bad struct{ in, says string }
	refuse := func(in string, c Cell, err error, says string) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: taken for %v", in, c)
		} else if !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 250 {
			t.Errorf("%s: message %q, want one short line with %q", in, err, says)
		}
	}
	for _, b := range []struct {
		lon, lat int
		says     string
	}{
		{0, 5, "longitude 0.00 is off the 0.1° grid"},
		{5, -10, "latitude -0.10 is off the 0.1° grid"},
		{-4, 5, "longitude -0.04 is off the 0.1° grid"},
		{18005, 5, "longitude 180.05 is out of range"},
		{-18005, 5, "longitude -180.05 is out of range"},
		{5, 9005, "latitude 90.05 is out of range"},
		{5, -9005, "latitude -90.05 is out of range"},
		{65536 + 5, 5, "out of range"}, // 5 as an int16
		{math.MinInt, 5, "out of range"},
		{5, math.MaxInt, "out of range"},
	} {
		c, err := NewCell(b.lon, b.lat)
		refuse("NewCell", c, err, b.says)
	}
	for _, b := range []struct {
		lon, lat float64
		says     string
	}{
		{math.NaN(), 0.05, "longitude is NaN"},
		{0.05, math.NaN(), "latitude is NaN"},
		{math.Inf(1), 0.05, "longitude +Inf is out of range"},
		{0.05, math.Inf(-1), "latitude -Inf is out of range"},
		{1e300, 0.05, "out of range"},
		{0.05, 92233720368547758.08, "out of range"},
		{655.41, 0.05, "longitude 655.41 is out of range"}, // 5 as an int16 of hundredths
		{0.052, 0.05, "longitude 0.052 is off"},
		{0.05 + 2e-6, 0.05, "longitude 0.050002 is off"},
		{0, 0.05, "longitude 0.00 is off"},
		{0.05, 90, "latitude 90.00 is out of range"},
		{180, 0.05, "longitude 180.00 is out of range"},
	} {
		c, err := CellAt(b.lon, b.lat)
		refuse("CellAt", c, err, b.says)
	}
	for _, b := range []bad{
		{"", "not a tile name"},
		{"grid_", "not a tile name"},
		{"grid_0.05", "not a tile name"},
		{"grid_0.05_", "not a tile name"},
		{"grid__0.05", "not a tile name"},
		{"Grid_0.05_0.05", "not a tile name"},
		{"grid_0.05_0.05_", "not a tile name"},
		{"grid_0.05_0.05.npy", "not a tile name"},
		{"grid_0.05_0.05_scales", "not a tile name"},
		{"grid_+0.05_0.05", "not a tile name"},
		{"grid_00.05_0.05", "not a tile name"},
		{"grid_.05_0.05", "not a tile name"},
		{"grid_0.05_0.050", "not a tile name"},
		{"grid_5e-2_0.05", "not a tile name"},
		{"grid_0x1p-3_0.05", "longitude 0.125 is off the 0.1° grid"},
		{"grid_0,05_0.05", "not a tile name"},
		{" grid_0.05_0.05", "not a tile name"},
		{"grid_0.05_0.05\n", "not a tile name"},
		{"grid_NaN_0.05", "longitude is NaN"},
		{"grid_0.05_Inf", "latitude +Inf is out of range"},
		{"grid_-0.00_0.05", "longitude 0.00 is off the 0.1° grid"},
		{"grid_0.10_0.05", "longitude 0.10 is off the 0.1° grid"},
		{"grid_180.05_0.05", "longitude 180.05 is out of range"},
		{"grid_" + strings.Repeat("9", 1<<20) + "_0.05", "not a tile name"},
	} {
		c, err := ParseCell(b.in)
		refuse(b.in[:min(len(b.in), 40)], c, err, b.says)
	}
}

// TestCompare would catch a catalogue order by latitude first, or by name.
func TestCompare(t *testing.T) {
	want := []Cell{{-17995, 5}, {-15, 8995}, {-5, -5}, {-5, 5}, {-5, 15}, {5, -8995}, {95, 5}, {105, 5}}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Cell.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("sorted %v, want %v", got, want)
	}
}
