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

{{/* Whether a ServiceAccount, in CEL, is of a size that people make. Each level is looked at only where the one above is small. */}}
{{- define "regcred.celUsualSize" -}}
size({{ . }}.?imagePullSecrets.orValue([])) <= 64 && size({{ . }}.?secrets.orValue([])) <= 64 &&
size({{ . }}.metadata.?labels.orValue({})) <= 64 && size({{ . }}.metadata.?annotations.orValue({})) <= 64 &&
size({{ . }}.metadata.?finalizers.orValue([])) <= 64 && size({{ . }}.metadata.?ownerReferences.orValue([])) <= 64 &&
{{ . }}.metadata.?annotations.orValue({}).map(k, size({{ . }}.metadata.annotations[k])).sum() <= 16384 &&
size({{ . }}.metadata.?managedFields.orValue([])) <= 16 && {{ . }}.metadata.?managedFields.orValue([]).all(m, !has(m.fieldsV1) ||
size(m.fieldsV1) <= 8 && m.fieldsV1.all(a, size(m.fieldsV1[a]) <= (a == 'f:metadata' ? 8 : 68) &&
m.fieldsV1[a].all(b, size(m.fieldsV1[a][b]) <= (a == 'f:metadata' ? 68 : 8) &&
m.fieldsV1[a][b].all(c, size(m.fieldsV1[a][b][c]) <= 8 && m.fieldsV1[a][b][c].all(d, size(m.fieldsV1[a][b][c][d]) == 0)))))
{{- end }}

{{/* Whether an ownerReference `o` is to a RegistryCredential, in CEL. */}}
{{- define "regcred.celIsOwner" -}}
o.kind == 'RegistryCredential' && o.apiVersion.startsWith('regcred.dev/')
{{- end }}

{{/*
Whether a Secret holds a fingerprint key of 32 bytes or more: 44 digits of Base64, of which 31 bytes end in two `=`. The values
are Base64 in an admission review, while the type check takes them for bytes: dyn() lets both be.
*/}}
{{- define "regcred.celIsKey" -}}
dyn({{ . }}).?data[?'key'].orValue('').size() > 44 || (dyn({{ . }}).?data[?'key'].orValue('').size() == 44 && !dyn({{ . }}).data.key.endsWith('=='))
{{- end }}

{{/*
Domains whose tools act on Secrets by labels or annotations: with such a key a pull secret is more than that. Also of every
subdomain, and of what ends in them after a hyphen, as x-k8s.io does.
*/}}
{{- define "regcred.domainsOfTools" -}}
1password.io akuity.io appscode.com argocd.io argoproj.io banzaicloud.com banzaicloud.io bitnami.com carvel.dev cattle.io cert-manager.io
clastix.io clustersecret.io coreos.com crossplane.io emberstack.com external-secrets.io fluxcd.io gardener.cloud gke.io hashicorp.com
havulv.io helm.sh infisical.com istio.io janitor jenkins.io k14s.io k8s.io karmada.io kubernetes.io kyverno.io linkerd.io loft.sh mittwald.de
oam.dev open-cluster-management.io openshift.io regcred.dev stakater.com tekton.dev titansoft.com upbound.io velero.io
{{- end }}

{{/*
Whether a key `k` of a label or annotation is one that target.metadata may use, in CEL. Kyverno notes on what it changed that it
did, and acts on nothing by that.
*/}}
{{- define "regcred.celMetadataKey" -}}
{{- $globs := list }}
{{- range .Values.cage.metadataKeys }}
{{- $globs = append $globs (. | replace "." "[.]" | replace "*" "[^/]*") }}
{{- end }}
{{- $domains := include "regcred.domainsOfTools" . | replace "\n" " " | replace "." "[.]" | replace " " "|" -}}
(k.matches('^({{ join "|" $globs | default "/" }})$') && (k.startsWith('app.kubernetes.io/') ? !(k in ['app.kubernetes.io/instance', 'app.kubernetes.io/managed-by']) : (k == 'policies.kyverno.io/last-applied-patches' || !k.matches('^([^/]*[.-])?({{ $domains }})/'))))
{{- end }}

{{/* Why a key of a label or annotation is refused. The operator knows the refusal by the name of the value. */}}
{{- define "regcred.metadataRefusal" -}}
regcred writes a {{ . }} whose key is its own or is allowed by the chart value cage.metadataKeys, and none by which other tools act on Secrets
{{- end }}
