{{/* First part of every name. */}}
{{- define "gossipswarm.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gossipswarm.operator" -}}
{{ include "gossipswarm.fullname" . }}-operator
{{- end -}}

{{- define "gossipswarm.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "gossipswarm.operator" .) }}
{{- else -}}
{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* Whether there is a webhook that gives pods their sidecar: "true", or nothing. */}}
{{- define "gossipswarm.injects" -}}
{{- if or (eq .Values.injection.mode "Enabled") (and (eq .Values.injection.mode "Auto") (not .Values.watchNamespaces)) -}}
true
{{- end -}}
{{- end -}}

{{/* What belongs to the webhook. */}}
{{- define "gossipswarm.webhook" -}}
{{ include "gossipswarm.operator" . }}-webhook
{{- end -}}

{{/*
Secret with the webhook's certificate. That of cert-manager, which outlives the release, has another name: Helm makes no
Secret where there is one that is not its own.
*/}}
{{- define "gossipswarm.webhookSecret" -}}
{{ include "gossipswarm.webhook" . }}{{ if .Values.injection.certManager.enabled }}-tls{{ end }}
{{- end -}}

{{/* What the API server calls the webhook. */}}
{{- define "gossipswarm.webhookHost" -}}
{{ include "gossipswarm.operator" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "gossipswarm.selector" -}}
app.kubernetes.io/name: gossipswarm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gossipswarm.labels" -}}
{{ include "gossipswarm.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: gossipswarm
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image by (dict "image" values "version" appVersion): by digest if there is one. */}}
{{- define "gossipswarm.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end -}}
{{- end -}}

{{- define "gossipswarm.operatorImage" -}}
{{ include "gossipswarm.image" (dict "image" .Values.image "version" .Chart.AppVersion) }}
{{- end -}}

{{- define "gossipswarm.agentImage" -}}
{{ include "gossipswarm.image" (dict "image" .Values.agentImage "version" .Chart.AppVersion) }}
{{- end -}}

{{/* What the "restricted" Pod Security Standard asks of a pod, and of a container. */}}
{{- define "gossipswarm.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "gossipswarm.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
