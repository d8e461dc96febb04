// Package browser has the tests of the status page in a real browser. They need chromium.
package browser
