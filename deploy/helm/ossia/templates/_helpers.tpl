{{- define "ossia.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ossia.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ossia.labels" -}}
{{ include "ossia.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ossia.tokenSecret" -}}
{{- .Values.token.existingSecret | default (printf "%s-token" (include "ossia.fullname" .)) -}}
{{- end -}}

{{- define "ossia.tokenEnv" -}}
- name: OSSIA_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "ossia.tokenSecret" . }}
      key: token
{{- end -}}

{{/* Port on which a worker's leader serves the Engine protocol. */}}
{{- define "ossia.enginePort" -}}50051{{- end -}}

{{- define "ossia.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ossia.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
