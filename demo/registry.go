package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tesserafs/tesserafs/grid"
)

// The columns of the published registries.
var (
	utcMicros = &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}

	manifestSchema = columns(
		"version", arrow.BinaryTypes.String, "variant", arrow.BinaryTypes.String, "year", arrow.PrimitiveTypes.Int32,
		"lon", arrow.PrimitiveTypes.Float64, "lat", arrow.PrimitiveTypes.Float64, "directory", arrow.BinaryTypes.String,
		"grid_path", arrow.BinaryTypes.String, "scales_path", arrow.BinaryTypes.String,
		"grid_mtime", utcMicros, "scales_mtime", utcMicros,
		"grid_size", arrow.PrimitiveTypes.Int64, "scales_size", arrow.PrimitiveTypes.Int64,
		"lon_i", arrow.PrimitiveTypes.Int32, "lat_i", arrow.PrimitiveTypes.Int32)

	landmasksSchema = columns(
		"lat", arrow.PrimitiveTypes.Float64, "lon", arrow.PrimitiveTypes.Float64, "hash", arrow.BinaryTypes.String,
		"mtime", arrow.PrimitiveTypes.Float64, "file_size", arrow.PrimitiveTypes.Int64, "path", arrow.BinaryTypes.String)
)

// columns makes a schema of names and types, taking turns.
func columns(namesAndTypes ...any) *arrow.Schema {
	var fields []arrow.Field
	for i := 0; i < len(namesAndTypes); i += 2 {
		fields = append(fields, arrow.Field{Name: namesAndTypes[i].(string), Type: namesAndTypes[i+1].(arrow.DataType), Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// versionOf returns what manifests say of a dataset, by its directory (geotessera's registry).
func versionOf(dataset string) (version, variant string) {
	switch dataset {
	case "v1":
		return "1.0", "vultr"
	case "v1.1-cam":
		return "1.1", "cambridge"
	case "v2-2B-L~beta1":
		return "2.0", "2B-L~beta1"
	}
	version, variant, _ = strings.Cut(strings.TrimPrefix(dataset, "v"), "-")
	return version, variant
}

// writeRegistries writes manifest.parquet, sorted by year, longitude and latitude, and
// landmasks.parquet. Sizes and times are those of the files on disk.
func writeRegistries(cfg Config, fps []grid.Footprint) error {
	version, variant := versionOf(cfg.Dataset)
	var tiles, masks [][]any
	for _, year := range cfg.Years {
		for _, f := range fps {
			lon, lat := f.Cell.LonLat()
			name := f.Cell.String()
			// Where the published copy lies, not this one; readers make paths of their own.
			url := fmt.Sprintf("s3://tessera-synthetic/npy/%s/%d/%s/%s", cfg.Dataset, year, name, name)
			mtime := arrow.Timestamp(modTime(f.Cell, year).UnixMicro())
			tiles = append(tiles, []any{version, variant, int32(year), lon, lat, name, url + ".npy", url + "_scales.npy",
				mtime, mtime, embeddingsBytes(f), scalesBytes(f), int32(f.Cell.Lon), int32(f.Cell.Lat)})
		}
	}
	for _, f := range fps {
		path := cfg.Files(f.Cell, 0).Landmask
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		lon, lat := f.Cell.LonLat()
		masks = append(masks, []any{lat, lon, "", float64(fi.ModTime().Unix()), fi.Size(), filepath.Base(path)})
	}
	files := cfg.Files(fps[0].Cell, 0)
	if err := writeTable(files.Manifest, manifestSchema, tiles); err != nil {
		return err
	}
	return writeTable(files.Landmasks, landmasksSchema, masks)
}

// writeTable writes rows, each of one value a column, as a Parquet file. It is written every time,
// as it is small and neither size nor time tells whether it speaks of the same tiles.
func writeTable(path string, schema *arrow.Schema, rows [][]any) error {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for _, row := range rows {
		for i, v := range row {
			switch c := b.Field(i).(type) {
			case *array.StringBuilder:
				c.Append(v.(string))
			case *array.Int32Builder:
				c.Append(v.(int32))
			case *array.Int64Builder:
				c.Append(v.(int64))
			case *array.Float64Builder:
				c.Append(v.(float64))
			case *array.TimestampBuilder:
				c.Append(v.(arrow.Timestamp))
			}
		}
	}
	rec := b.NewRecord()
	defer rec.Release()
	mtime := epoch.Add(24 * time.Hour)
	return writeFile(path, mtime, func(f *os.File) error {
		props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy))
		// The writer closes what it is given, where it can be closed.
		w, err := pqarrow.NewFileWriter(schema, notClosed{f}, props, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
		if err != nil {
			return err
		}
		if err := w.Write(rec); err != nil {
			return err
		}
		return w.Close()
	})
}

// notClosed hides Close.
type notClosed struct{ f *os.File }

func (n notClosed) Write(p []byte) (int, error) { return n.f.Write(p) }
