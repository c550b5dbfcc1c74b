{{/* Labels of every object. */}}
{{- define "carrick.labels" -}}
app.kubernetes.io/name: carrick
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What a part's pods are selected by; call with the part's name. */}}
{{- define "carrick.selector" -}}
app.kubernetes.io/name: carrick
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* The image of a part; call with (list $ "part"). */}}
{{- define "carrick.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
carrick/{{ index . 1 }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* Scheduling that each part can be given; call with (list $ "part"). */}}
{{- define "carrick.scheduling" -}}
{{- $root := index . 0 -}}
{{- $part := index $root.Values (index . 1) -}}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
{{- with omit $part.nodeSelector "kubernetes.io/os" }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What gateways and agents join by, and where they keep what survives a restart of the process. */}}
{{- define "carrick.memberVolumes" -}}
- name: trust
  configMap:
    name: carrick-trust
- name: token
  projected:
    sources:
      - serviceAccountToken:
          audience: carrick.dev
          expirationSeconds: 3600
          path: token
- name: state
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end }}

{{- define "carrick.memberMounts" -}}
- name: trust
  mountPath: /etc/carrick/trust
  readOnly: true
- name: token
  mountPath: /var/run/carrick/token
  readOnly: true
- name: state
  mountPath: /run/carrick
{{- end }}

{{/* Environment by the downward API; call with a list of [name, fieldPath] pairs. */}}
{{- define "carrick.fieldEnv" -}}
{{- range . }}
- name: {{ index . 0 }}
  valueFrom:
    fieldRef:
      fieldPath: {{ index . 1 }}
{{- end }}
{{- end }}

{{/* "true" where a definition of the Multi-Cluster Services API is to be installed: wanted, and not there unless this
release brought it. `helm template` cannot look, and takes it for not there. Call with (list $ "name of the CRD"). */}}
{{- define "carrick.installs" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.services.installCRDs -}}
{{- $held := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (index . 1) -}}
{{- $marks := dig "metadata" "annotations" (dict) $held -}}
{{- $ours := and (eq (get $marks "meta.helm.sh/release-name") $root.Release.Name) (eq (get $marks "meta.helm.sh/release-namespace") $root.Release.Namespace) -}}
{{- if or (empty $held) $ours -}}
true
{{- end -}}
{{- end -}}
{{- end }}
