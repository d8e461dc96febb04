package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

const page = "../../docs/admin.md"

// fill sets everything that can be seen of a value to something that is not its zero.
func fill(v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1e9, 0)))
		return
	case reflect.TypeFor[error]():
		v.Set(reflect.ValueOf(errors.New("so")))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("so")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8, reflect.Uint64, reflect.Uint:
		v.SetUint(1)
	}
}

// fieldsOf lists the paths of all fields of a JSON value.
func fieldsOf(v any, at string) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			path := strings.TrimPrefix(at+"."+name, ".")
			all = append(append(all, path), fieldsOf(x, path)...)
		}
	case []any:
		for _, x := range v {
			all = append(all, fieldsOf(x, at+"[]")...)
		}
	}
	return all
}

// TestDocs compares docs/admin.md with the code: every path and every field of the JSON is in it, and what is in it there is.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n## ")
	rows := func(title string) (names []string) {
		for _, s := range sections {
			if strings.HasPrefix(s, title+"\n") {
				for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` ").FindAllStringSubmatch(s, -1) {
					names = append(names, m[1])
				}
			}
		}
		slices.Sort(names)
		return names
	}
	same := func(what string, documented, there []string) {
		slices.Sort(there)
		there = slices.Compact(there)
		if slices.Equal(documented, there) {
			return
		}
		for _, name := range there {
			if !slices.Contains(documented, name) {
				t.Errorf("%s: docs/admin.md does not have %s", what, name)
			}
		}
		for _, name := range documented {
			if !slices.Contains(there, name) {
				t.Errorf("%s: docs/admin.md has %s, which is not there", what, name)
			}
		}
	}

	_, h := serving(t, fake.Three("a", 1), Config{Metrics: http.NotFoundHandler()})
	var questions, pages, changes []string
	for pattern := range h.routes() {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.TrimSuffix(path, "{$}")
		_, isCheck := checks[path[1:]]
		switch {
		case method == "POST":
			changes = append(changes, path)
		case isCheck:
			questions = append(questions, path)
		case !strings.Contains(path, "."): // the parts of the page
			pages = append(pages, path)
		}
	}
	same("questions", rows("Questions of load balancers and orchestrators"), questions)
	same("pages", rows("Pages and JSON"), pages)
	same("changes", rows("Changes"), changes)

	for title, body := range map[string]any{"The fields of `/status`": new(report), "The fields of `/events`": new(eventsReport), "The fields of an answer": new(verdict)} {
		fill(reflect.ValueOf(body).Elem())
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		same(title, rows(title), fieldsOf(v, ""))
	}

	stated := map[string]bool{}
	for name := range unready {
		stated[string(name)] = strings.Contains(string(text), "`"+string(name)+"`")
	}
	for name, there := range stated {
		if !there {
			t.Errorf("docs/admin.md does not say that %s is not ready", name)
		}
	}
	for l := ha.Alive; l <= ha.Left; l++ {
		if !strings.Contains(string(text), "`"+l.String()+"`") {
			t.Errorf("docs/admin.md does not have %v", l)
		}
	}
}
