{{- define "rorun-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* At most 50 characters, so that suffixes fit. */}}
{{- define "rorun-operator.fullname" -}}
{{- $name := include "rorun-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* For what is in no namespace: releases of one name in two namespaces do not share it. */}}
{{- define "rorun-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "rorun-operator.fullname" .) }}
{{- end }}

{{- define "rorun-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rorun-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rorun-operator.labels" -}}
{{ include "rorun-operator.selectorLabels" . }}
app.kubernetes.io/part-of: rorun
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $own := list "name" "instance" "part-of" "version" "managed-by" }}
{{- range $key, $value := omit (.Values.commonLabels | default dict) "helm.sh/chart" }}
{{- if not (has (trimPrefix "app.kubernetes.io/" $key) (ternary $own (list) (hasPrefix "app.kubernetes.io/" $key))) }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rorun-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "rorun-operator.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "rorun-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "rorun-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "rorun-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The operator checks the same and would end: here the order is refused before anything is installed. After an upgrade with
--reuse-values from a chart without these values there are none. */}}
{{- /* Without the value, as after an upgrade with --reuse-values from a chart that had none, the policy is on. */}}
{{- define "rorun-operator.approvals" -}}
{{- if and (dig "enabled" true (.Values.approvalPolicy | default dict)) (not .Values.watchNamespaces) }}true{{ end }}
{{- end }}

{{- define "rorun-operator.leaderElection" -}}
{{- $values := .Values.leaderElection | default dict }}
{{- $lease := $values.leaseDuration | default "15s" }}
{{- $renew := $values.renewDeadline | default "10s" }}
{{- $retry := $values.retryPeriod | default "2s" }}
{{- if le (trimSuffix "s" $lease | int64) (add 4 (trimSuffix "s" $renew | int64)) }}
{{- fail (printf "leaderElection.leaseDuration is %s: it must be longer than leaderElection.renewDeadline (%s) by more than 4s, the longest that a write may take" $lease $renew) }}
{{- end }}
{{- if le (mul 5 (trimSuffix "s" $renew | int64)) (mul 6 (trimSuffix "s" $retry | int64)) }}
{{- fail (printf "leaderElection.renewDeadline is %s: it must be longer than 1.2 times leaderElection.retryPeriod (%s)" $renew $retry) }}
{{- end -}}
- --leader-elect-lease-duration={{ $lease }}
- --leader-elect-renew-deadline={{ $renew }}
- --leader-elect-retry-period={{ $retry }}
{{- end }}

{{/* Without a value, as after an upgrade with --reuse-values from a chart that had none, the pods must not lose theirs. */}}
{{- define "rorun-operator.podSecurityContext" -}}
{{- if kindIs "invalid" .Values.podSecurityContext -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- else -}}
{{ toYaml .Values.podSecurityContext }}
{{- end }}
{{- end }}

{{- define "rorun-operator.securityContext" -}}
{{- if kindIs "invalid" .Values.securityContext -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
    - ALL
readOnlyRootFilesystem: true
{{- else -}}
{{ toYaml .Values.securityContext }}
{{- end }}
{{- end }}

{{- define "rorun-operator.spread" -}}
{{- if .Values.topologySpreadConstraints }}
{{- toYaml .Values.topologySpreadConstraints }}
{{- else -}}
- topologyKey: kubernetes.io/hostname
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "rorun-operator.selectorLabels" . | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
