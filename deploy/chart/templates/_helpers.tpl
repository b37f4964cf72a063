{{/* What it is called, as a part of other names. */}}
{{- define "regcred.chartName" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of every object: that of the release, with the chart's behind it unless it has it already. */}}
{{- define "regcred.name" -}}
{{- $name := include "regcred.chartName" . }}
{{- .Values.fullnameOverride | default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "regcred.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "regcred.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "regcred.name" .) }}
{{- else }}
{{- required "serviceAccount.create is false: set serviceAccount.name to the ServiceAccount that regcred is to have" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "regcred.selector" -}}
app.kubernetes.io/name: {{ include "regcred.chartName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of the Pods, without those that change with each version of the chart. */}}
{{- define "regcred.podLabels" -}}
{{- $own := merge (include "regcred.selector" . | fromYaml) (dict "app.kubernetes.io/version" .Chart.AppVersion) }}
{{- toYaml (merge $own .Values.podLabels .Values.commonLabels) }}
{{- end }}

{{- define "regcred.labels" -}}
{{- $chart := printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $own := merge (include "regcred.selector" . | fromYaml) (dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" $chart) }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{/* Labels and annotations of an object. Call with `root`, and `labels` and `annotations` if it has some of its own. */}}
{{- define "regcred.metadata" -}}
{{- $labels := merge (include "regcred.labels" .root | fromYaml) (.labels | default dict) }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations -}}
labels: {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A repository of the chart's own image with the registry of `global`, in place of the one that it names. */}}
{{- define "regcred.repository" -}}
{{- $registry := (.Values.global | default dict).imageRegistry }}
{{- $parts := splitList "/" .Values.image.repository }}
{{- $named := and (gt (len $parts) 1) (or (contains "." (first $parts)) (contains ":" (first $parts)) (eq (first $parts) "localhost")) }}
{{- if $registry }}{{ $registry }}/{{ join "/" (ternary (rest $parts) $parts $named) }}{{ else }}{{ .Values.image.repository }}{{ end }}
{{- end }}

{{- define "regcred.image" -}}
{{- $repository := include "regcred.repository" . }}
{{- with .Values.image -}}
{{ $repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Secrets for regcred's own image, each a map with its name: `global` may list names alone. */}}
{{- define "regcred.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) .Values.imagePullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $secrets | uniq }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Whether an optional kind is wanted. Call with `root`, `enabled` (true, false or auto) and `api`. */}}
{{- define "regcred.wants" -}}
{{- if or (eq (toString .enabled) "true") (and (eq (toString .enabled) "auto") (.root.Capabilities.APIVersions.Has .api)) }}yes{{ end }}
{{- end }}

{{/*
Whether the policy that attaches at birth is made. `helm template` knows the kinds of no cluster, and there the version decides; in a
cluster it does not, as an API server may emulate an older one.
*/}}
{{- define "regcred.attachesAtBirth" -}}
{{- $kindsKnown := .Capabilities.APIVersions.Has "apps/v1/Deployment" }}
{{- $served := or (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") (and (not $kindsKnown) (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version)) }}
{{- if or (eq (toString .Values.attachAtBirth.enabled) "true") (and (eq (toString .Values.attachAtBirth.enabled) "auto") $served) }}yes{{ end }}
{{- end }}

{{/* The name of the operator in the API server. */}}
{{- define "regcred.username" -}}
system:serviceaccount:{{ include "regcred.namespace" . }}:{{ include "regcred.serviceAccountName" . }}
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

{{/* The folder of the pages that alerts point to. */}}
{{- define "regcred.runbooks" -}}
{{- .Values.prometheusRule.runbookURL | default (printf "%s/blob/main/docs/runbooks" (first .Chart.Sources)) | trimSuffix "/" }}
{{- end }}
