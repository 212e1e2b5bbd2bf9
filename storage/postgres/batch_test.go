package postgres

import "keymill/storage/optimistic/enginetest"

type part = enginetest.Part

var (
	batch   = enginetest.Batch
	reads   = enginetest.Reads
	puts    = enginetest.Puts
	scanned = enginetest.Scanned
	at      = enginetest.At
)
