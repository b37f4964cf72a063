{{- define "regcred.name" -}}
{{ .Values.nameOverride | default .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "regcred.selector" -}}
app.kubernetes.io/name: regcred
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "regcred.labels" -}}
{{ include "regcred.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "regcred.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The name of the operator in the API server. */}}
{{- define "regcred.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "regcred.name" . }}
{{- end }}

{{/* A list of strings in CEL. */}}
{{- define "regcred.celList" -}}
[{{ range $at, $name := . }}{{ if $at }}, {{ end }}'{{ $name }}'{{ end }}]
{{- end }}

{{/* Whether a name matches one of a list of globs, in CEL. Call with name and globs, both CEL. */}}
{{- define "regcred.celGlobs" -}}
{{ .globs }}.exists(g, {{ .name }}.matches('^' + g.replace('.', '[.]').replace('*', '.*').replace('?', '.') + '$'))
{{- end }}

{{/* Whether labels meet a label selector, in CEL. An empty selector selects nothing. Call with labels and selector, both CEL. */}}
{{- define "regcred.celSelector" -}}
has({{ .selector }}) &&
(size({{ .selector }}.?matchLabels.orValue({})) > 0 || size({{ .selector }}.?matchExpressions.orValue([])) > 0) &&
{{ .selector }}.?matchLabels.orValue({}).all(k, k in {{ .labels }} && {{ .labels }}[k] == {{ .selector }}.matchLabels[k]) &&
{{ .selector }}.?matchExpressions.orValue([]).all(e,
  e.operator == 'Exists' ? e.key in {{ .labels }} :
  e.operator == 'DoesNotExist' ? !(e.key in {{ .labels }}) :
  e.operator == 'In' ? e.key in {{ .labels }} && {{ .labels }}[e.key] in e.?values.orValue([]) :
  !(e.key in {{ .labels }}) || !({{ .labels }}[e.key] in e.?values.orValue([])))
{{- end }}
