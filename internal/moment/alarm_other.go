//go:build !linux

package moment

func newSystemAlarm(func()) Alarm { return nil }
